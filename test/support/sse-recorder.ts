import { createParser } from 'eventsource-parser';
import { checkEvent, checkedFetch } from './contract.js';
import { waitFor } from './wait.js';

export interface Recorded {
  id: string;
  event: string;
  data: any;
}

/**
 * Records one connection to an event stream, block by block as they came over the wire: what a browser hides
 * (comments, `retry:`, blocks without data) is kept too.
 */
export class SseRecorder {
  readonly events: Recorded[] = [];
  /** The ids of blocks that hold nothing else. */
  readonly bareIds: string[] = [];
  readonly comments: string[] = [];
  readonly retries: number[] = [];
  /** Everything, as it came. */
  text = '';
  /** The last `id:` seen, which a browser would send back. */
  lastEventId = '';
  response: Response | null = null;
  /** Set when the stream has ended, by either side. */
  isEnded = false;
  error: unknown = null;

  private readonly abort = new AbortController();
  readonly ended: Promise<void>;

  constructor(url: string, headers: Record<string, string>) {
    this.ended = this.run(url, headers)
      .catch((error: unknown) => {
        this.error = error;
      })
      .finally(() => {
        this.isEnded = true;
      });
  }

  private async run(url: string, headers: Record<string, string>): Promise<void> {
    this.response = await checkedFetch(url, {
      headers: { accept: 'text/event-stream', ...headers },
      signal: this.abort.signal,
    });
    if (this.response.status !== 200 || !this.response.body) return;
    const parser = createParser({
      onComment: (comment) => this.comments.push(comment),
      onRetry: (ms) => this.retries.push(ms),
      onId: (id) => {
        this.lastEventId = id;
        this.bareIds.push(id);
      },
      onEvent: ({ id, event = 'message', data }) => {
        if (id !== undefined) this.bareIds.pop(); // told just now, and not bare after all
        const recorded = { id: id ?? '', event, data: JSON.parse(data) };
        checkEvent(recorded);
        this.events.push(recorded);
      },
    });
    const decoder = new TextDecoder();
    for await (const chunk of this.response.body) {
      const part = decoder.decode(chunk as Uint8Array, { stream: true });
      this.text += part;
      parser.feed(part);
    }
  }

  /** Resolves when the stream has begun: from then on nothing is missed. */
  async opened(): Promise<this> {
    await waitFor('the stream to begin', () => this.bareIds.length > 0 || this.isEnded);
    return this;
  }

  ofType(event: string): Recorded[] {
    return this.events.filter((recorded) => recorded.event === event);
  }

  /** The first event of a type, about one reply where named, once it has come. */
  async next(event: string, replyId?: string, timeoutMs = 30_000): Promise<Recorded> {
    return waitFor(
      `${event} (so far: ${this.events.map((recorded) => recorded.event).join(' ')})`,
      () =>
        this.events.find(
          (recorded) =>
            recorded.event === event &&
            (replyId === undefined || (recorded.data.replyId ?? recorded.data.reply?.id) === replyId),
        ),
      { timeoutMs },
    );
  }

  /** What a reader sees of a reply: see {@link textOf}. */
  textOf(replyId: string): string {
    return textOf(this.events, replyId);
  }

  async close(): Promise<void> {
    this.abort.abort();
    await this.ended;
  }
}

/**
 * What a reader has of a reply: a snapshot replaces what was held, a higher attempt begins the text anew, and each
 * delta is checked to continue it without a hole. A snapshot's rows may be ahead of its cursor, so the deltas of a
 * reply that it holds as final repeat what is known.
 */
export function textOf(events: readonly Recorded[], replyId: string): string {
  let attempt = 0;
  let text = '';
  let isComplete = false;
  for (const { event, data } of events) {
    if (event === 'session.snapshot') {
      const reply = data.replies.find(({ id }: { id: string }) => id === replyId);
      const message = messageOf(data, replyId);
      attempt = reply?.attempt ?? 0;
      text = reply?.text ?? message?.content ?? '';
      isComplete = reply !== undefined && reply.text === undefined;
    }
    if (isComplete) continue;
    if (event === 'reply.started' && data.replyId === replyId && data.attempt > attempt) {
      attempt = data.attempt;
      text = '';
    }
    if (event === 'reply.delta' && data.replyId === replyId && data.attempt === attempt) {
      if (data.offset !== text.length)
        throw new Error(`a delta at ${data.offset} follows ${text.length} units`);
      text += data.text;
    }
  }
  return text;
}

/** The final reply and its message, from the event of its end or from a snapshot that holds it; null: not yet. */
export function endOf(
  events: readonly Recorded[],
  replyId: string,
): Pick<Recorded['data'], 'reply' | 'message'> | null {
  for (const { event, data } of events) {
    if (FINAL_EVENTS.includes(event) && data.reply.id === replyId) return data;
    if (event !== 'session.snapshot') continue;
    const reply = data.replies.find(({ id }: { id: string }) => id === replyId);
    // Only an unfinished reply carries a text of its own.
    if (reply && reply.text === undefined) return { reply, message: messageOf(data, replyId) };
  }
  return null;
}

/** The events that end a reply. */
export const FINAL_EVENTS: readonly string[] = ['reply.completed', 'reply.cancelled', 'reply.failed'];

const messageOf = (snapshot: Recorded['data'], replyId: string): Recorded['data'] =>
  snapshot.messages.find(
    (message: { sender: string; replyId: string | null }) =>
      message.sender === 'ai' && message.replyId === replyId,
  ) ?? null;
