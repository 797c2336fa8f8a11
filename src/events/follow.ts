import { Latch } from '../runtime/latch.js';
import { EventStreamUnavailableError } from './event-stream.js';
import type { Cursor, EventStream, ReadResult, StreamEvent, StreamNews } from './event-stream.js';
import { continues } from './records.js';

/** Entries that are read from the log at a time. */
const PAGE = 200;

/**
 * What may wait for a slow consumer, in characters of data, each event counting for a few more. Beyond, it is
 * dropped and read again from the log when the consumer comes back.
 */
const MAX_WAITING_CHARS = 262_144;
const CHARS_PER_EVENT = 100;

/** Delays between attempts while the stream is unavailable, in milliseconds. */
const MIN_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2_000;

/**
 * A session's events after a cursor, in order, without a hole and none twice, until the signal aborts or the
 * consumer leaves; `'lost'`, and the end, where the log cannot continue from the cursor.
 *
 * It listens first and reads afterwards, so nothing falls between the two. What listeners are called with is a shortcut:
 * used where it continues the cursor exactly, and otherwise a reason to read the log. While the stream is
 * unavailable it waits and tries again.
 *
 * @param rereadIntervalMs how long a lost notification may delay an event
 */
export async function* follow(
  stream: Pick<EventStream, 'subscribe' | 'read'>,
  sessionId: string,
  after: Cursor,
  signal: AbortSignal,
  rereadIntervalMs = 15_000,
): AsyncGenerator<{ events: StreamEvent[]; cursor: Cursor } | 'lost', void, undefined> {
  const inbox = new Inbox();
  let cursor = after;
  let subscribing: Promise<() => void> | null = null;
  let backoffMs = MIN_BACKOFF_MS;
  let rereadAt = 0;
  try {
    while (!signal.aborted) {
      if (inbox.mustRead || performance.now() >= rereadAt) {
        let result: ReadResult | undefined;
        try {
          subscribing ??= stream
            .subscribe(sessionId, (news) => inbox.put(news))
            .catch((error: unknown) => {
              subscribing = null;
              throw error;
            });
          await unlessAborted(subscribing, signal);
          inbox.beginRead();
          result = await unlessAborted(stream.read(sessionId, cursor, PAGE), signal);
        } catch (error) {
          if (!(error instanceof EventStreamUnavailableError)) throw error;
          inbox.requestRead();
          // Many subscribers lose the stream at the same moment; jitter keeps them from coming back at the same.
          await inbox.wait(backoffMs * (0.5 + Math.random() / 2), signal);
          backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
          continue;
        }
        if (result === undefined) return;
        if (result.status === 'lost') {
          yield 'lost';
          return;
        }
        backoffMs = MIN_BACKOFF_MS;
        rereadAt = performance.now() + rereadIntervalMs;
        if (result.hasMore) inbox.requestRead();
        cursor = result.cursor;
        if (result.events.length > 0) yield { events: result.events, cursor };
        continue;
      }
      const events = inbox.take(cursor);
      if (events.length > 0) {
        cursor = { generation: cursor.generation, seq: cursor.seq + events.length };
        yield { events, cursor };
      } else if (!inbox.mustRead) {
        await inbox.wait(Math.max(0, rereadAt - performance.now()), signal);
      }
    }
  } finally {
    // A subscription may still be on its way when the signal aborts.
    subscribing?.then(
      (unsubscribe) => unsubscribe(),
      () => undefined,
    );
  }
}

/**
 * What the listener was called with, until the consumer takes it. While a read of the log is due nothing is kept:
 * entries are in the log before any listener is called, so that read will have them.
 */
class Inbox {
  private waiting: NonNullable<StreamNews>[] = [];
  private waitingChars = 0;
  private isReadDue = true;
  private readonly latch = new Latch();

  /** Whether the log has to be read, as what waits here is not enough. */
  get mustRead(): boolean {
    return this.isReadDue;
  }

  put(news: StreamNews): void {
    if (news === null) this.requestRead();
    if (news !== null && !this.isReadDue) {
      this.waiting.push(news);
      for (const { data } of news.events) this.waitingChars += data.length + CHARS_PER_EVENT;
      if (this.waitingChars > MAX_WAITING_CHARS) this.requestRead();
    }
    this.latch.set();
  }

  requestRead(): void {
    this.isReadDue = true;
    this.empty();
  }

  /** To be called right before the log is read: what is put from here on may be newer than that read. */
  beginRead(): void {
    this.isReadDue = false;
    this.empty();
  }

  /** Takes what continues the cursor; anything else that is not older than it requests a read. */
  take(cursor: Cursor): StreamEvent[] {
    const taken: StreamEvent[] = [];
    for (const { generation, events } of this.waiting) {
      const seq = cursor.seq + taken.length;
      const next = events.filter((event) => event.seq > seq);
      if (generation !== cursor.generation || !continues(next, seq)) {
        this.isReadDue = true;
        break;
      }
      taken.push(...next);
    }
    this.empty();
    return taken;
  }

  /** Resolves when something was put, the time is up, or the signal aborts. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return this.latch.wait(ms, signal);
  }

  private empty(): void {
    this.waiting = [];
    this.waitingChars = 0;
  }
}

/**
 * As the promise settles, or undefined as soon as the signal aborts. Not Promise.race with one promise of the
 * abort: each race would leave a reaction on it for as long as the stream is followed.
 */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const abort = (): void => resolve(undefined);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
