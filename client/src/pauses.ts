/** Waits that end early when there is a reason to try again at once: the device is online, or the page is seen. */
export class Pauses {
  private readonly waiting = new Set<() => void>();
  private readonly listeners = new Set<(isSure: boolean) => void>();

  /**
   * Resolves after the time, at `wake()`, or when the signal aborts.
   *
   * @param isFixed whether it is not for `wake()` to end: the server has asked for it
   */
  wait(ms: number, signal: AbortSignal, isFixed = false): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const end = (): void => {
        clearTimeout(timer);
        this.waiting.delete(end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      if (!isFixed) this.waiting.add(end);
      signal.addEventListener('abort', end);
    });
  }

  /** @param listener told of every wake @returns what ends that */
  onWake(listener: (isSure: boolean) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** @param isSure whether what was connected before is surely lost */
  wake(isSure: boolean): void {
    for (const end of this.waiting) end();
    for (const listener of this.listeners) listener(isSure);
  }
}
