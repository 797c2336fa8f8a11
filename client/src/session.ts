import type { ChatOptions } from './chat-types.js';
import type { RequestError } from './problem.js';
import type { Requests } from './requests.js';
import type { Session } from './tabs.js';
import type { Message, OpenedSession } from './wire.js';

/** Opens sessions, and gets a verified guest back into one. */
export class Sessions {
  constructor(
    private readonly requests: Requests,
    private readonly options: Pick<ChatOptions, 'chatbotId' | 'guest' | 'identity'>,
  ) {}

  /** @throws RequestError where it is refused */
  async open(
    signal: AbortSignal,
    onFailure: (error: RequestError) => void,
  ): Promise<{ session: Session; messages: Message[] }> {
    const { chatbotId, guest } = this.options;
    const opened = await this.requests.persist(
      async () =>
        this.requests.send<OpenedSession>('POST', `/v1/chatbots/${chatbotId}/sessions`, {
          token: await this.options.identity?.(),
          body: guest ? { guest } : {},
          signal,
        }),
      { signal, onFailure },
    );
    return { session: { id: opened.session.id, token: opened.token }, messages: opened.messages };
  }

  /** Another token for a verified guest's session; null where there is none to be had. */
  async renew({ id }: Session, signal: AbortSignal): Promise<Session | null> {
    const { identity } = this.options;
    if (!identity) return null;
    try {
      const { token } = await this.requests.persist(
        async () =>
          this.requests.send<{ token: string }>('POST', `/v1/guest/sessions/${id}/token`, {
            token: await identity(),
            signal,
          }),
        { signal },
      );
      return { id, token };
    } catch {
      return null; // not theirs any more, or not to be asked for at this server
    }
  }
}
