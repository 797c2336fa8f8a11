import type { Chat, ChatOptions, ChatSnapshot, ChatStatus, ChatMessage } from './chat-types.js';
import {
  applyEvent,
  type Conversation,
  currentReply,
  EMPTY,
  isFinal,
  type TrackedReply,
  withEarlier,
  withMessage,
  withReply,
  withSnapshot,
} from './conversation.js';
import { follow } from './follow.js';
import { newId } from './new-id.js';
import { Outbox, type Unsent } from './outbox.js';
import { wakeWithPage } from './page-events.js';
import { Pauses } from './pauses.js';
import { type ChatProblem, isSessionGone, networkError, RequestError } from './problem.js';
import { Requests } from './requests.js';
import { Sessions } from './session.js';
import { memoryStorage, pageStorage, Stored } from './storage.js';
import { aloneInTab, canShare, joinTabs, type Session, type TabMessage, type Tabs } from './tabs.js';
import { TIMINGS, type Timings } from './timings.js';
import { toHistory, toSnapshot } from './view.js';
import type { Message, MessagePage, PostedMessage, Reply, SessionEvent } from './wire.js';

/** A verified guest whose new token is refused as well, within this time, is not given another. */
const RENEW_AT_MOST_EVERY_MS = 10_000;
const PAGE_SIZE = 100;

const SESSION_DELETED: ChatProblem = {
  code: 'session_deleted',
  detail: 'The conversation was deleted.',
  status: 404,
};

/** The key under which a chat's session, as `{ id, token }`, is stored; what is not sent is beside it, under `:unsent`. */
export const storedAs = ({
  baseUrl,
  chatbotId,
  conversation,
}: Pick<ChatOptions, 'baseUrl' | 'chatbotId' | 'conversation'>): string =>
  `assistly:${baseUrl}:${chatbotId}${conversation ? `:${conversation}` : ''}`;

/** Opens a chat, or goes on with the one that the storage holds. */
export function createChat(options: ChatOptions): Chat {
  return new ChatStore(options);
}

/** What a chat is at one time. */
interface State {
  status: ChatStatus;
  error: ChatProblem | null;
  session: Session | null;
  /** The place in the session's stream that `conversation` has come to. */
  cursor: string | null;
  conversation: Conversation;
  /** What is shown of sessions that have ended. */
  history: readonly ChatMessage[];
}

/**
 * One chat in one tab. The tab that leads holds the session and its stream, and tells the others what it reads; each tab
 * sends its own messages. There is one way to change what is shown: `set()`.
 */
class ChatStore implements Chat {
  private state: State;
  private snapshot: ChatSnapshot;
  private readonly listeners = new Set<() => void>();

  private readonly timings: Timings;
  private readonly pauses = new Pauses();
  private readonly closing = new AbortController();
  private readonly requests: Requests;
  private readonly sessions: Sessions;
  private readonly storedSession: Stored<Session>;
  private readonly outbox: Outbox;
  private readonly tabs: Tabs;
  private readonly stopListening: () => void;

  private isLeader = false;
  /** Whether a session is to be opened where there is none. */
  private isWanted: boolean;
  private onWanted = (): void => undefined;
  /** Ends the stream of a session that another request has found to be over. */
  private leaveStream: (problem: ChatProblem) => void = () => undefined;
  private renewedAt = -Infinity;

  /** Messages on their way whose reply is to be stopped. */
  private readonly stopWanted = new Set<string>();
  private isAsking = false;
  private isLoading = false;
  /** Where the next page of older messages begins; null: with the newest. */
  private earlierCursor: string | null = null;

  constructor(private readonly options: ChatOptions) {
    const { baseUrl, fetch } = options;
    const storage = options.storage ?? pageStorage() ?? memoryStorage();
    const name = storedAs(options);
    this.timings = { ...TIMINGS, ...options.timings };
    this.requests = new Requests(
      baseUrl,
      (...request) => (fetch ?? globalThis.fetch)(...request), // a browser's own may not be called as a method
      this.timings,
      this.pauses,
    );
    this.sessions = new Sessions(this.requests, options);
    this.storedSession = new Stored(storage, name);
    this.outbox = new Outbox({
      stored: new Stored(storage, `${name}:unsent`),
      post: (unsent) => this.post(unsent),
      onChange: () => this.set({}),
    });
    this.isWanted = options.open !== 'lazy' || this.outbox.sending.length > 0;
    this.state = {
      status: this.isWanted ? 'opening' : 'idle',
      error: null,
      session: null,
      cursor: null,
      conversation: EMPTY,
      history: [],
    };
    this.snapshot = this.look();
    this.stopListening = wakeWithPage(this.pauses);
    const onLead = (): void => void this.lead();
    // Tabs that share a storage share a session, and so a stream.
    this.tabs =
      canShare() && storage === pageStorage()
        ? joinTabs({ name, onLead, onMessage: (message) => this.hear(message) })
        : aloneInTab({ onLead });
    this.tabs.tell({ type: 'hello', isWanted: this.isWanted });
  }

  // --- what is shown

  get status(): ChatStatus {
    return this.snapshot.status;
  }
  get messages(): ChatSnapshot['messages'] {
    return this.snapshot.messages;
  }
  get reply(): ChatSnapshot['reply'] {
    return this.snapshot.reply;
  }
  get error(): ChatProblem | null {
    return this.snapshot.error;
  }
  get hasEarlier(): boolean {
    return this.snapshot.hasEarlier;
  }

  readonly getSnapshot = (): ChatSnapshot => this.snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private set(change: Partial<State>): void {
    if (this.isClosed && change.status !== 'closed') return;
    this.state = { ...this.state, ...change };
    const before = this.snapshot;
    this.snapshot = this.look(before);
    if (this.snapshot !== before) for (const listener of this.listeners) listener();
  }

  private look(before?: ChatSnapshot): ChatSnapshot {
    return toSnapshot({ ...this.state, unsent: this.outbox.entries }, before);
  }

  private get isClosed(): boolean {
    return this.closing.signal.aborted;
  }

  // --- what one does with it

  readonly send = (text: string): string => {
    const id = newId();
    if (this.isClosed) return id;
    this.set({ error: null });
    this.outbox.resendAfterEnd();
    this.outbox.add({ id, content: text });
    this.want();
    return id;
  };

  readonly resend = (key: string): void => {
    this.set({ error: null });
    this.outbox.resend(key);
    this.want();
  };

  readonly stop = async (): Promise<void> => {
    for (const { id } of this.outbox.sending) this.stopWanted.add(id);
    const reply = currentReply(this.state.conversation);
    if (reply && !isFinal(reply)) await this.cancel(reply.id);
  };

  readonly retry = (): Promise<void> =>
    this.askAgain(
      ({ status, finishReason }) =>
        status === 'failed' || status === 'cancelled' || finishReason === 'budget',
    );

  readonly regenerate = (): Promise<void> => this.askAgain(({ status }) => status === 'completed');

  readonly loadEarlier = async (): Promise<void> => {
    if (this.isLoading) return;
    this.isLoading = true;
    await this.request(async (session) => {
      for (let hasMore = true; hasMore && this.snapshot.hasEarlier;) {
        const [first] = this.state.conversation.messages;
        const query = this.earlierCursor === null ? '' : `&cursor=${encodeURIComponent(this.earlierCursor)}`;
        const { data, nextCursor } = await this.ofSession<MessagePage>(
          session,
          'GET',
          `messages?order=desc&limit=${PAGE_SIZE}${query}`,
        );
        const [newest] = data;
        // What is here was replaced meanwhile by something newer: what lies between comes first.
        const leavesHole = first && newest && newest.sequence + 1 < first.sequence;
        if (leavesHole && this.earlierCursor !== null) {
          this.earlierCursor = null;
          continue;
        }
        this.earlierCursor = nextCursor;
        if (this.state.session?.id === session.id)
          this.set({ conversation: withEarlier(this.state.conversation, data) });
        hasMore = nextCursor !== null && this.state.conversation.messages[0]?.id === first?.id;
      }
    });
    this.isLoading = false;
  };

  readonly close = (): void => {
    if (this.isClosed) return;
    this.closing.abort();
    this.onWanted();
    this.outbox.stop(null);
    this.tabs.leave();
    this.stopListening();
    this.set({ status: 'closed' });
  };

  private async askAgain(may: (reply: TrackedReply) => boolean): Promise<void> {
    const reply = currentReply(this.state.conversation);
    if (!reply || !isFinal(reply) || !may(reply) || this.isAsking) return;
    this.isAsking = true;
    const headers = { 'Idempotency-Key': newId() };
    await this.request(async (session) => {
      const made = await this.persist(() =>
        this.requests.send<Reply>('POST', `/v1/replies/${reply.id}/retry`, {
          token: session.token,
          headers,
          signal: this.closing.signal,
        }),
      );
      this.learn(session, (conversation) => withReply(conversation, made));
    });
    this.isAsking = false;
  }

  private cancel(replyId: string): Promise<void> {
    return this.request(async (session) => {
      const ended = await this.persist(() =>
        this.requests.send<Reply>('POST', `/v1/replies/${replyId}/cancel`, {
          token: session.token,
          signal: this.closing.signal,
        }),
      );
      this.learn(session, (conversation) => withReply(conversation, ended));
    });
  }

  /** Does something with the session; where it does not work, `error` says why. */
  private async request(work: (session: Session) => Promise<void>): Promise<void> {
    const { session } = this.state;
    if (!session) return;
    this.set({ error: null });
    try {
      await work(session);
    } catch (error) {
      const { problem } = error instanceof RequestError ? error : networkError(error);
      if (isSessionGone(problem)) this.gone(session.id, problem);
      else this.set({ error: problem });
    }
  }

  private persist<T>(send: () => Promise<T>): Promise<T> {
    return this.requests.persist(send, { signal: this.closing.signal, forMs: this.timings.giveUpMs });
  }

  private ofSession<T>(session: Session, method: string, path: string, body?: object): Promise<T> {
    return this.requests.send<T>(method, `/v1/sessions/${session.id}/${path}`, {
      token: session.token,
      body,
      signal: this.closing.signal,
    });
  }

  /** Sends one message, until the server has it. */
  private async post({ id, content }: Unsent): Promise<void> {
    const { session } = this.state;
    if (!session) return;
    try {
      const posted = await this.persist(async () =>
        // The stream may have told that it has arrived.
        this.outbox.has(id)
          ? this.ofSession<PostedMessage>(session, 'POST', 'messages', { content, clientMessageId: id })
          : null,
      );
      if (!posted) return;
      const { message, reply } = posted;
      this.learn(session, (conversation) => {
        const withPosted = withMessage(conversation, message);
        // An end comes with its message, by the stream.
        return isFinal(reply) ? withPosted : withReply(withPosted, reply);
      });
    } catch (error) {
      if (error instanceof RequestError && isSessionGone(error.problem)) this.gone(session.id, error.problem);
      throw error;
    }
  }

  // --- what happens

  /** Takes over what a request or an event has told about a session, unless another has followed it. */
  private learn(of: Pick<Session, 'id'>, change: (before: Conversation) => Conversation): void {
    if (this.state.session?.id !== of.id) return;
    this.set({ conversation: change(this.state.conversation) });
    for (const { id } of this.outbox.entries) {
      const arrived = this.state.conversation.messages.find((message) => message.clientMessageId === id);
      if (!arrived) continue;
      this.outbox.settle(id);
      if (this.stopWanted.delete(id) && arrived.replyId !== null) void this.cancel(arrived.replyId);
    }
  }

  private onEvent(sessionId: string, event: SessionEvent): 'resync' | void {
    if (this.state.session?.id !== sessionId) return;
    this.state.cursor = event.id;
    this.learn({ id: sessionId }, (conversation) => applyEvent(conversation, event));
    return this.state.conversation.hasGap ? 'resync' : undefined;
  }

  // --- the session, and its stream: the leader's

  private want(): void {
    if (this.state.session || this.isClosed) return;
    this.isWanted = true;
    if (!this.isLeader) return this.tabs.tell({ type: 'hello', isWanted: true });
    this.announce({ status: 'opening' });
    this.onWanted();
  }

  private async lead(): Promise<void> {
    this.isLeader = true;
    const session = this.state.session ?? this.storedSession.load();
    if (session) this.begin(session);
    while (!this.isClosed) {
      if (this.state.session) await this.followSession(this.state.session);
      else if (this.isWanted) await this.open();
      else await this.untilWanted();
    }
  }

  private untilWanted(): Promise<void> {
    this.tellState();
    return new Promise((resolve) => {
      this.onWanted = resolve;
    });
  }

  private async open(): Promise<void> {
    this.announce({ status: 'opening' });
    try {
      const { session, messages } = await this.sessions.open(this.closing.signal, ({ problem }) =>
        this.announce({ error: problem }),
      );
      if (this.isClosed) return;
      this.storedSession.save(session);
      this.begin(session, messages);
    } catch (error) {
      const { problem } = error instanceof RequestError ? error : networkError(error);
      if (!this.isClosed) this.end(problem);
    }
  }

  /** There is a session: messages may be sent to it. */
  private begin(session: Session, messages: readonly Message[] = []): void {
    const status = this.state.status === 'open' ? 'reconnecting' : 'opening';
    this.announce({ status, session, error: null });
    this.learn(session, (conversation) => messages.reduce(withMessage, conversation));
    this.outbox.start();
  }

  private async followSession(session: Session): Promise<void> {
    const leaving = new AbortController();
    const leave = (): void => leaving.abort();
    let foundOver: ChatProblem | null = null;
    this.leaveStream = (problem) => {
      foundOver = problem;
      leave();
    };
    this.closing.signal.addEventListener('abort', leave);
    const problem = await follow({
      connect: (cursor, signal) => this.connect(session, cursor, signal),
      cursor: this.state.cursor,
      onEvent: (event) => {
        const told = this.onEvent(session.id, event);
        this.tabs.tell({ type: 'event', sessionId: session.id, event });
        return told;
      },
      onCursor: (cursor) => {
        this.state.cursor = cursor;
        this.tabs.tell({ type: 'cursor', sessionId: session.id, cursor });
      },
      onUp: () => this.announce({ status: 'open', error: null }),
      onDown: (failure) =>
        this.announce({
          status: this.state.status === 'opening' ? 'opening' : 'reconnecting',
          error: failure,
        }),
      pauses: this.pauses,
      timings: this.timings,
      signal: leaving.signal,
    });
    this.closing.signal.removeEventListener('abort', leave);
    this.leaveStream = () => undefined;
    if (!this.isClosed) await this.sessionOver(session, foundOver ?? problem ?? SESSION_DELETED);
  }

  private connect(session: Session, cursor: string | null, signal: AbortSignal): Promise<Response> {
    return this.requests.fetch(
      `${this.requests.baseUrl}/v1/sessions/${session.id}/events${cursor === null ? '?after=snapshot' : ''}`,
      {
        headers: {
          Accept: 'text/event-stream',
          Authorization: `Bearer ${session.token}`,
          ...(cursor !== null && { 'Last-Event-ID': cursor }),
        },
        cache: 'no-store',
        signal,
      },
    );
  }

  /** Ends a session; but a verified guest gets another token for it, or else another session. */
  private async sessionOver(session: Session, problem: ChatProblem): Promise<void> {
    const isTokenRefused = problem.status === 401 && this.options.identity !== undefined;
    if (!isTokenRefused || Date.now() - this.renewedAt < RENEW_AT_MOST_EVERY_MS) return this.end(problem);
    this.renewedAt = Date.now();
    this.announce({ status: 'reconnecting', error: problem });
    const renewed = await this.sessions.renew(session, this.closing.signal);
    if (this.isClosed) return;
    if (renewed) {
      this.storedSession.save(renewed);
      this.begin(renewed);
    } else {
      this.end(problem, true);
    }
  }

  /** @param isToGoOn whether another session is opened at once */
  private end(problem: ChatProblem, isToGoOn = false): void {
    this.isWanted = isToGoOn;
    this.storedSession.save(null);
    this.forget();
    this.outbox.stop(isToGoOn ? null : problem);
    this.announce({ status: 'ended', error: problem });
  }

  /** Without a session: what was shown of it stays. */
  private forget(): void {
    const { history, conversation } = this.state;
    this.stopWanted.clear();
    this.earlierCursor = null;
    this.set({
      session: null,
      cursor: null,
      conversation: EMPTY,
      history: [...history, ...toHistory(conversation)],
    });
  }

  /** A request has found that a session is over. */
  private gone(sessionId: string, problem: ChatProblem): void {
    if (this.state.session?.id !== sessionId) return;
    this.outbox.stop(this.options.identity ? null : problem);
    if (this.isLeader) this.leaveStream(problem);
    else this.tabs.tell({ type: 'gone', sessionId, problem });
  }

  // --- between tabs

  /** Changes what all tabs show. */
  private announce(change: Partial<State>): void {
    this.set(change);
    this.tellState();
  }

  private tellState(): void {
    const { status, error, session, cursor, conversation } = this.state;
    const { messages, replies } = conversation;
    this.tabs.tell({ type: 'state', status, error, session, cursor, messages, replies });
  }

  private hear(message: TabMessage): void {
    if (this.isLeader) {
      if (message.type === 'gone') this.gone(message.sessionId, message.problem);
      if (message.type !== 'hello') return;
      if (message.isWanted) this.want();
      this.tellState();
    } else if (message.type === 'event') {
      if (this.onEvent(message.sessionId, message.event)) this.tabs.tell({ type: 'hello', isWanted: false });
    } else if (message.type === 'cursor') {
      if (this.state.session?.id === message.sessionId) this.state.cursor = message.cursor;
    } else if (message.type === 'state') {
      this.copy(message);
    }
  }

  private copy({ status, error, session, cursor, messages, replies }: TabMessage & { type: 'state' }): void {
    const hadEnded = this.state.status === 'ended';
    if (this.state.session && this.state.session.id !== session?.id) this.forget();
    this.set({ status, error, session, cursor });
    if (session) {
      this.isWanted = false;
      this.learn(session, (conversation) => withSnapshot(conversation, messages, replies));
      this.outbox.start();
    } else if (status === 'ended') {
      if (hadEnded) return; // what was written since is for the next session
      this.isWanted = false;
      this.outbox.stop(error);
    } else if (this.isWanted && status === 'idle') {
      this.tabs.tell({ type: 'hello', isWanted: true }); // which nobody has heard who leads now
    }
  }
}
