/** How many keys are remembered; of what is forgotten another window begins. */
const MAX_KEYS = 20_000;

/** What this process itself lets through: all that there is to go by while the store of limits does not answer in time. */
export class OwnCounts {
  private readonly windows = new Map<string, { hits: number; endsAt: number }>();
  private readonly places = new Map<string, number>();

  /** Counts a hit. @returns which one of its window it is */
  hit(key: string, windowSeconds: number): number {
    const now = performance.now();
    let window = this.windows.get(key);
    if (!window || window.endsAt <= now) {
      if (this.windows.size >= MAX_KEYS) this.windows.clear();
      window = { hits: 0, endsAt: now + windowSeconds * 1_000 };
      this.windows.set(key, window);
    }
    return ++window.hits;
  }

  /** Takes a place, to be left. @returns how many are taken, this one included */
  enter(key: string): number {
    const taken = (this.places.get(key) ?? 0) + 1;
    this.places.set(key, taken);
    return taken;
  }

  leave(key: string): void {
    const taken = (this.places.get(key) ?? 0) - 1;
    if (taken > 0) this.places.set(key, taken);
    else this.places.delete(key);
  }
}
