/** Gathers what is given one by one, and works on it together. */
export class Batch<Item> {
  private items: Item[] = [];
  private working: Promise<void> | null = null;
  private timer: NodeJS.Timeout | null = null;
  private begin: (() => void) | null = null;

  /**
   * @param afterMs how long it gathers
   * @param work on what was gathered; what it throws is its own to tell
   */
  constructor(
    private readonly afterMs: number,
    private readonly work: (items: Item[]) => Promise<void>,
  ) {}

  add(item: Item): void {
    this.items.push(item);
    this.working ??= this.run();
  }

  /** Works on all that is there, without waiting for more. Resolves when that is done. */
  async settle(): Promise<void> {
    while (this.working) {
      this.begin?.();
      await this.working;
    }
  }

  private async run(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.begin = resolve;
      this.timer = setTimeout(resolve, this.afterMs);
    });
    clearTimeout(this.timer ?? undefined);
    this.begin = null;
    try {
      await this.work(this.items.splice(0));
    } catch {
      // Its caller has told it.
    }
    this.working = this.items.length > 0 ? this.run() : null;
  }
}
