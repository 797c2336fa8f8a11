import type { Logger } from '@nestjs/common';

/** One line of an event so often at most, in milliseconds: an error that stays must not fill the disk. */
const INTERVAL_MS = 5_000;

/** What a line carries besides its message: its event and the ids. */
type Fields = { event: string } & Record<string, unknown>;

/**
 * Writes the first line of an event, and then one in five seconds, which says in `leftOut` how many were left out since.
 * Events are constants, so there are few of them.
 */
export class PacedLogger {
  private readonly paces = new Map<string, { nextAt: number; leftOut: number }>();

  constructor(private readonly logger: Logger) {}

  warn(fields: Fields, message: string): void {
    const now = performance.now();
    const pace = this.paces.get(fields.event);
    if (pace && now < pace.nextAt) {
      pace.leftOut++;
      return;
    }
    this.paces.set(fields.event, { nextAt: now + INTERVAL_MS, leftOut: 0 });
    this.logger.warn({ ...fields, ...(pace && pace.leftOut > 0 && { leftOut: pace.leftOut }) }, message);
  }
}
