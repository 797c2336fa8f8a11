/** How old a comparison of the clocks may become. */
const FRESH_MS = 30_000;
/** A sample that took longer is too inexact where there is another: the process was busy, or the network. */
const GOOD_ROUND_TRIP_MS = 20;

/**
 * Gives the time of a store in this process's `performance.now()`, so that two events can be compared that were
 * timed by different machines. Exact to half a round trip.
 */
export class StoreClock {
  /** The store's time minus ours, in milliseconds. */
  private offsetMs: number | null = null;
  private comparedAt = -Infinity;
  private isComparing = false;

  /** @param read the store's time in milliseconds, of whatever epoch */
  constructor(private readonly read: () => Promise<number>) {}

  /** Null until the clocks have been compared once, and for what is no time. Compares them again, in the background, from time to time. */
  toLocal(storeMs: number): number | null {
    if (performance.now() - this.comparedAt > FRESH_MS) void this.compare();
    return this.offsetMs === null || Number.isNaN(storeMs) ? null : storeMs - this.offsetMs;
  }

  private async compare(): Promise<void> {
    if (this.isComparing) return;
    this.isComparing = true;
    try {
      const askedAt = performance.now();
      const storeMs = await this.read();
      const answeredAt = performance.now();
      if (this.offsetMs === null || answeredAt - askedAt <= GOOD_ROUND_TRIP_MS)
        this.offsetMs = storeMs - (askedAt + answeredAt) / 2;
      this.comparedAt = answeredAt;
    } catch {
      // the store does not answer: the next event asks again
    } finally {
      this.isComparing = false;
    }
  }
}
