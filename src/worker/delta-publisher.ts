import { setTimeout as sleep } from 'node:timers/promises';
import type { EventStream, StreamEntry } from '../events/event-stream.js';
import { replyDelta } from '../events/entries.js';
import type { Claim } from '../conversations/reply-store/transitions.js';

/**
 * Deltas go out at most this often, the first one at once: a reader's eye is no faster. Those of all replies of a process go
 * in the same instants, so that they can share a write.
 */
const FLUSH_INTERVAL_MS = 50;
/** Pause after the stream did not answer. */
const RETRY_INTERVAL_MS = 500;
/** How long the end of an answer waits for a stream that does not answer; with the end of the reply, the rest of the text is published. */
const FINAL_FLUSH_TIMEOUT_MS = 3_000;

/**
 * Publishes an answer to the event stream while it grows. It keeps the whole text and how much of it the stream has;
 * so whatever becomes of an append (lost, done twice, the stream begun anew), the next one continues exactly
 * at the length that the stream reports.
 */
export class DeltaPublisher {
  /** All of it so far, whether the stream has it yet or not. */
  text = '';
  /** How much of it the stream has, in UTF-16 units. */
  private published = 0;
  /** The stream does not know this attempt yet, or no more. */
  private mustStart = false;
  private flushing: Promise<void> | null = null;
  private lastFlushAt = -Infinity;
  private timer: NodeJS.Timeout | null = null;
  private isRefused = false;
  private isStopped = false;
  /** When its first text came, by `performance.now()`; null: none yet. */
  firstTextAt: number | null = null;

  /**
   * @param opening the entries that the stream must have of the attempt before its text
   * @param onRefused the stream takes no more text of this attempt: a later one has begun, or the reply has ended
   */
  constructor(
    private readonly stream: EventStream,
    private readonly claim: Claim,
    private readonly opening: readonly StreamEntry[],
    private readonly onRefused: () => void,
  ) {}

  /** Adds well-formed text; nothing is ever taken back. */
  append(text: string): void {
    this.firstTextAt ??= performance.now();
    this.text += text;
    this.scheduleNext();
  }

  /** Resolves when the stream has all of the text, cannot be reached, or refuses it. */
  async finish(): Promise<void> {
    const giveUpAt = performance.now() + FINAL_FLUSH_TIMEOUT_MS;
    this.clearTimer();
    while (this.published < this.text.length && !this.isRefused && performance.now() < giveUpAt) {
      await (this.flushing ?? this.flush());
      this.clearTimer();
    }
    this.isStopped = true;
  }

  /** Publishes nothing more. */
  stop(): void {
    this.isStopped = true;
    this.clearTimer();
  }

  private clearTimer(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }

  /** At once after a pause, else in the next of the instants that all share, which is half an interval away at the least. */
  private scheduleNext(): void {
    const now = performance.now();
    if (now - this.lastFlushAt >= FLUSH_INTERVAL_MS) return this.schedule(0);
    const earliest = Math.max(this.lastFlushAt + FLUSH_INTERVAL_MS / 2, now);
    this.schedule(Math.ceil(earliest / FLUSH_INTERVAL_MS) * FLUSH_INTERVAL_MS - now);
  }

  private schedule(delayMs: number): void {
    if (this.timer || this.flushing || this.isStopped || this.isRefused) return;
    if (delayMs <= 0) {
      void this.flush();
      return;
    }
    this.timer = setTimeout(() => {
      this.timer = null;
      void this.flush();
    }, delayMs);
  }

  private flush(): Promise<void> {
    this.flushing ??= this.send().finally(() => {
      this.flushing = null;
      if (this.published < this.text.length) this.scheduleNext();
    });
    return this.flushing;
  }

  private async send(): Promise<void> {
    this.lastFlushAt = performance.now();
    const { replyId, sessionId, attempt } = this.claim;
    const end = this.text.length;
    const entries: StreamEntry[] = [
      ...(this.mustStart ? this.opening : []),
      replyDelta({ replyId, attempt, offset: this.published, text: this.text.slice(this.published, end) }),
    ];
    try {
      const result = await this.stream.append(sessionId, entries);
      switch (result.status) {
        case 'appended':
          this.published = end;
          this.mustStart = false;
          return;
        case 'behind':
          this.mustStart = result.attempt !== attempt;
          this.published = this.mustStart ? 0 : Math.min(result.length, this.text.length);
          this.lastFlushAt = -Infinity; // correct it at once
          return;
        case 'refused':
          this.isRefused = true;
          this.onRefused();
      }
    } catch {
      // The stream logs its own failures; the text is kept, and sent with the next append.
      this.lastFlushAt = performance.now() + RETRY_INTERVAL_MS - FLUSH_INTERVAL_MS;
      await sleep(RETRY_INTERVAL_MS);
    }
  }
}
