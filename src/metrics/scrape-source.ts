import { within } from '../runtime/within.js';
import type { Timings } from '../runtime/timings.js';

/** What is read from a store for a scrape. A store that does not answer leaves its metrics out, and spoils no scrape. */
export class ScrapeSource<T> {
  private isUp = false;
  private readAt = -Infinity;
  private reading: Promise<void> | null = null;

  constructor(
    private readonly read: () => Promise<T>,
    /** Sets the gauges; null: removes them, since a number that is not known is not 0. */
    private readonly show: (value: T | null) => void,
    private readonly timings: Pick<Timings, 'scrapeTimeoutMs' | 'scrapeFreshMs'>,
  ) {}

  /** @returns whether the store answered */
  async refresh(): Promise<boolean> {
    if (performance.now() - this.readAt >= this.timings.scrapeFreshMs) {
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
      value = await within(this.timings.scrapeTimeoutMs, this.read());
    } catch {
      // the source's metric shows it; those who use the store log why
    }
    this.isUp = value !== null;
    this.readAt = performance.now();
    this.show(value);
  }
}
