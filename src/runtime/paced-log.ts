/** One line of a place so often at most, in milliseconds: an error that stays must not fill the disk. */
const INTERVAL_MS = 5_000;

/**
 * Lets through the first report of a place, and then one in five seconds, which says how many were left out. Other
 * places have one of their own.
 */
export class PacedLog<T extends readonly unknown[]> {
  private nextAt = -Infinity;
  private leftOut = 0;

  /** @param write gets how many reports were left out since the last one */
  constructor(private readonly write: (leftOut: number, ...report: T) => void) {}

  report(...report: T): void {
    const now = performance.now();
    if (now < this.nextAt) {
      this.leftOut++;
      return;
    }
    const { leftOut } = this;
    this.nextAt = now + INTERVAL_MS;
    this.leftOut = 0;
    this.write(leftOut, ...report);
  }
}
