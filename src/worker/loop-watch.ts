/** How often the loop has to come round, in milliseconds. */
const TURN_INTERVAL_MS = 100;
/**
 * A loop that is so late has more to do than it can: a tenth of the time between two heartbeats of a lease, so that there
 * is still plenty until one is lost. In milliseconds.
 */
const LATE_MS = 500;
/** Of the processor it has had this part of the delay at least: a process that was stopped, or a machine that slept, had none. */
const LEAST_BUSY = 0.1;
/** It has to be on time for so many turns, which is three seconds, before it counts as that again. */
const CALM_TURNS = 30;

/** Processor time of the process so far, in milliseconds. */
function busyMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/**
 * Tells whether the event loop of the process, which renews all its leases, keeps up with what it has to do. By a timer of
 * its own: Node's histogram of delays does not see one that begins right after it was emptied.
 */
export class LoopWatch {
  private readonly timer: NodeJS.Timeout;
  private lastTurn = performance.now();
  private lastBusyMs = busyMs();
  private calmTurns = CALM_TURNS;

  /** @param onChange told when it becomes late, and when it is on time again */
  constructor(private readonly onChange: (isLate: boolean) => void) {
    this.timer = setInterval(() => this.turn(), TURN_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private turn(): void {
    const [now, busy] = [performance.now(), busyMs()];
    const tookMs = now - this.lastTurn;
    const isLate = tookMs > TURN_INTERVAL_MS + LATE_MS && busy - this.lastBusyMs > tookMs * LEAST_BUSY;
    [this.lastTurn, this.lastBusyMs] = [now, busy];
    const wasLate = this.calmTurns < CALM_TURNS;
    this.calmTurns = isLate ? 0 : Math.min(CALM_TURNS, this.calmTurns + 1);
    if (isLate && !wasLate) this.onChange(true);
    else if (this.calmTurns === CALM_TURNS && wasLate) this.onChange(false);
  }
}
