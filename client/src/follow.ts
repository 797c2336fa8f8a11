import { createParser } from 'eventsource-parser';
import type { Pauses } from './pauses.js';
import { type ChatProblem, networkError, problemOf, RequestError } from './problem.js';
import { backoffMs, type Timings } from './timings.js';
import type { SessionEvent } from './wire.js';

export interface FollowOptions {
  /** Opens the stream after a cursor; null: with a snapshot. */
  connect: (cursor: string | null, signal: AbortSignal) => Promise<Response>;
  cursor: string | null;
  /** @returns `resync` where something is missing, and the stream has to begin again with a snapshot */
  onEvent: (event: SessionEvent) => 'resync' | void;
  /** The stream's place, after each event and at its start. */
  onCursor: (cursor: string) => void;
  /** The stream is there; or it was lost, for this reason, or has ended as each does: it will be opened again. */
  onUp: () => void;
  onDown: (problem: ChatProblem | null) => void;
  pauses: Pauses;
  timings: Timings;
  signal: AbortSignal;
}

/** How often the watchdog looks, as a part of the silence that it allows. */
const LOOKS = 8;
/** A stream that lived for so long was a good one: the next is opened soon. */
const GOOD_STREAM_MS = 5_000;

/**
 * Follows the events of a session for as long as there is one: over cuts, clean ends, sleep and the server's own end after
 * 15 minutes. Each connection goes on after the last cursor.
 *
 * @returns what has ended it; null after `session.deleted`, and where the signal was aborted
 */
export async function follow(options: FollowOptions): Promise<ChatProblem | null> {
  const { pauses, timings, signal, onDown } = options;
  let { cursor } = options;
  let failures = 0;
  while (!signal.aborted) {
    const startedAt = Date.now();
    const connection = new Connection(options);
    let failure: RequestError | null = null;
    let askedPauseMs = 0;
    try {
      const end = await connection.run(cursor);
      if (end.isDeleted) return null;
      askedPauseMs = end.retryMs;
    } catch (error) {
      failure = error instanceof RequestError ? error : networkError(error);
    }
    cursor = connection.needsSnapshot ? null : (connection.cursor ?? cursor);
    if (signal.aborted) return null;
    const status = failure?.problem.status ?? 0;
    if (failure && status >= 400 && status < 500 && !failure.isPassing && status !== 429) {
      return failure.problem;
    }
    const wasGood = connection.hasEvents || Date.now() - startedAt > GOOD_STREAM_MS;
    failures = wasGood ? 1 : failures + 1;
    if (connection.wasWoken) continue;
    onDown(failure?.problem ?? null);
    const askedMs = Math.max(failure?.retryAfterMs ?? 0, askedPauseMs);
    await pauses.wait(Math.max(backoffMs(failures, timings), askedMs), signal, failure?.retryAfterMs != null);
  }
  return null;
}

/** One connection: read until it ends, is given up, or the signal aborts. */
class Connection {
  cursor: string | null = null;
  hasEvents = false;
  needsSnapshot = false;
  /** Given up for a reason that also makes the next one worth trying at once. */
  wasWoken = false;

  private readonly aborting = new AbortController();
  private lastByteAt = Date.now();

  constructor(private readonly options: FollowOptions) {}

  async run(after: string | null): Promise<{ isDeleted: boolean; retryMs: number }> {
    const { connect, signal } = this.options;
    const abort = (): void => this.aborting.abort();
    const stopWatching = this.watch();
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      const response = await connect(after, this.aborting.signal);
      if (!response.ok) throw await problemOf(response);
      if (!response.body) throw networkError(null);
      return await this.read(response.body, after);
    } finally {
      stopWatching();
      signal.removeEventListener('abort', abort);
      abort(); // leaves a stream that is not read any more
    }
  }

  private async read(
    body: ReadableStream<Uint8Array>,
    after: string | null,
  ): Promise<{ isDeleted: boolean; retryMs: number }> {
    const { onEvent, onCursor, onUp } = this.options;
    let isDeleted = false;
    let isUp = false;
    /** A cursor that came without an event. */
    let bareId: string | null = null;
    const retries: number[] = [];
    const parser = createParser({
      onId: (id) => {
        this.cursor = id;
        bareId = id;
      },
      onRetry: (ms) => retries.push(ms),
      onEvent: ({ id = '', event = '', data }) => {
        bareId = null;
        if (this.needsSnapshot) return;
        this.hasEvents = true;
        isDeleted ||= event === 'session.deleted';
        const told = onEvent({ id, event, data: JSON.parse(data) as object } as SessionEvent);
        this.needsSnapshot = told === 'resync';
      },
    });
    const decoder = new TextDecoder();
    const reader = body.getReader();
    // Also where a `fetch` of somebody's own does not end its body with the signal.
    this.aborting.signal.addEventListener('abort', () => void reader.cancel().catch(() => undefined));
    for (;;) {
      const { done, value } = await reader.read();
      this.lastByteAt = Date.now();
      if (!done) parser.feed(decoder.decode(value, { stream: true }));
      if (bareId !== null) onCursor(bareId);
      bareId = null;
      // Opened without a cursor, it is there with its snapshot, before which nothing can be shown.
      if (!isUp && (this.hasEvents || (after !== null && this.cursor !== null))) {
        isUp = true;
        onUp();
      }
      // The server says when to come back at the start of each stream, and again where it stops and wants its clients
      // spread out.
      if (done || isDeleted || this.needsSnapshot) return { isDeleted, retryMs: retries[1] ?? 0 };
    }
  }

  /**
   * Gives the connection up when it has been silent for too long, or when the watchdog itself comes much too late and
   * nothing came meanwhile either: then the device slept. (In a page that is not seen, timers are late and bytes are not.)
   */
  private watch(): () => void {
    const { pauses, timings } = this.options;
    const { silenceMs } = timings;
    const lookEveryMs = silenceMs / LOOKS;
    let lookedAt = Date.now();
    const timer = setInterval(() => {
      const now = Date.now();
      const hasSlept = now - lookedAt > 3 * lookEveryMs && this.lastByteAt <= lookedAt;
      if (hasSlept || now - this.lastByteAt > silenceMs) this.aborting.abort();
      lookedAt = now;
    }, lookEveryMs);
    const stopListening = pauses.onWake((isSure) => {
      if (!isSure && Date.now() - this.lastByteAt < silenceMs / 2) return;
      this.wasWoken = true;
      this.aborting.abort();
    });
    return () => {
      clearInterval(timer);
      stopListening();
    };
  }
}
