import { within } from '../runtime/within.js';

/** A scrape waits so long for a store; Prometheus by itself gives up after ten seconds. */
const READ_TIMEOUT_MS = 1_000;
/** How long what was read is shown: whoever scrapes, and however often, a store is not asked more often. */
const FRESH_MS = 3_000;

/** What is read from a store for a scrape. A store that does not answer leaves its metrics out, and spoils no scrape. */
export class ScrapeSource<T> {
  private isUp = false;
  private readAt = -Infinity;
  private reading: Promise<void> | null = null;

  constructor(
    private readonly read: () => Promise<T>,
    /** Sets the gauges; null: removes them, since a number that is not known is not 0. */
    private readonly show: (value: T | null) => void,
  ) {}

  /** @returns whether the store answered */
  async refresh(): Promise<boolean> {
    if (performance.now() - this.readAt >= FRESH_MS) {
      this.reading ??= this.readOnce().finally(() => {
        this.reading = null;
      });
      await this.reading;
    }
    return this.isUp;
  }

  private async readOnce(): Promise<void> {
    let value: T | null = null;
    try {
      value = await within(READ_TIMEOUT_MS, this.read());
    } catch {
      // told by the source's metric; the store's users log why
    }
    this.isUp = value !== null;
    this.readAt = performance.now();
    this.show(value);
  }
}
