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
    let buffer = '';
    const decoder = new TextDecoder();
    for await (const chunk of this.response.body) {
      const part = decoder.decode(chunk as Uint8Array, { stream: true });
      this.text += part;
      buffer += part;
      for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n')) {
        this.take(buffer.slice(0, end).split('\n'));
        buffer = buffer.slice(end + 2);
      }
    }
  }

  private take(lines: string[]): void {
    const field = (name: string): string | undefined =>
      lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
    for (const line of lines) if (line.startsWith(':')) this.comments.push(line);
    const retry = field('retry');
    if (retry !== undefined) this.retries.push(Number(retry));
    const id = field('id');
    if (id !== undefined) this.lastEventId = id;
    const data = field('data');
    if (data !== undefined) {
      const recorded = { id: id ?? '', event: field('event') ?? 'message', data: JSON.parse(data) };
      checkEvent(recorded);
      this.events.push(recorded);
    } else if (id !== undefined) this.bareIds.push(id);
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

  /** What a reader sees of a reply: the text of its last attempt's deltas. */
  textOf(replyId: string): string {
    return textOf(this.events, replyId);
  }

  async close(): Promise<void> {
    this.abort.abort();
    await this.ended;
  }
}

/** The concatenated deltas of the last attempt of a reply, checked for offsets without a hole. */
export function textOf(events: readonly Recorded[], replyId: string): string {
  let attempt = 0;
  let text = '';
  for (const { event, data } of events) {
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
