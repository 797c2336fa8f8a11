import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How often the delays are looked at, in milliseconds. */
const LOOK_INTERVAL_MS = 1_000;
/**
 * A loop that is so late has more to do than it can: a tenth of the time between two heartbeats of a lease, so that there
 * is still plenty until one is lost. In nanoseconds.
 */
const LATE_NS = 500 * 1e6;
/** It has to be on time for so many looks before it counts as that again. */
const CALM_LOOKS = 3;

/** Tells whether the event loop of the process, which renews all its leases, keeps up with what it has to do. */
export class LoopWatch {
  private readonly delays = monitorEventLoopDelay({ resolution: 20 });
  private readonly timer: NodeJS.Timeout;
  private calmLooks = CALM_LOOKS;

  /** @param onChange told when it becomes late, and when it is on time again */
  constructor(private readonly onChange: (isLate: boolean) => void) {
    this.delays.enable();
    this.timer = setInterval(() => this.look(), LOOK_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
    this.delays.disable();
  }

  private look(): void {
    const isLate = this.delays.max > LATE_NS;
    this.delays.reset();
    const wasLate = this.calmLooks < CALM_LOOKS;
    this.calmLooks = isLate ? 0 : Math.min(CALM_LOOKS, this.calmLooks + 1);
    if (this.calmLooks === 0 && !wasLate) this.onChange(true);
    else if (this.calmLooks === CALM_LOOKS && wasLate) this.onChange(false);
  }
}
