/** An auto-reset event: once set, it stays set until one wait has consumed it. */
export class Latch {
  private isSet = false;
  private wake: (() => void) | null = null;

  set(): void {
    this.isSet = true;
    this.wake?.();
  }

  /** Resolves when it is set, or was set before, when the time is up, or when the signal aborts. */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (!this.isSet && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          this.wake = null;
          resolve();
        };
        const timer = setTimeout(done, timeoutMs);
        signal.addEventListener('abort', done, { once: true });
        this.wake = done;
      });
    }
    this.isSet = false;
  }
}
