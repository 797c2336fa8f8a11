import { Inject, Injectable } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';

/** Starting attempts may use one of so many connections of the pool, each one at a time. */
const ONE_OF = 2;

interface Waiting {
  held: number;
  resolve: (isLetIn: boolean) => void;
}

/**
 * Lets attempts start a few at a time: from the claim to the call of the model. A herd of replies that all start at
 * once would take all connections of the pool, and those that run would not get one for their heartbeats and their ends.
 * Who waits here has claimed nothing yet, so it loses nothing.
 */
@Injectable()
export class StartGate {
  private free: number;
  private readonly waiting: Waiting[] = [];
  private isClosed = false;

  constructor(@Inject(CONFIG) config: Pick<Config, 'DATABASE_POOL_MAX'>) {
    this.free = Math.max(1, Math.floor(config.DATABASE_POOL_MAX / ONE_OF));
  }

  /**
   * Waits for its turn: first whoever has the least that runs, then whoever came first.
   *
   * @param held how many replies of the same owner run already
   * @returns what gives the turn to the next, and may be called more than once; null where the gate is closed
   */
  async enter(held: number): Promise<(() => void) | null> {
    if (this.isClosed) return null;
    if (this.free > 0) this.free--;
    else if (!(await new Promise<boolean>((resolve) => this.waiting.push({ held, resolve })))) return null;
    let hasLeft = false;
    return () => {
      if (hasLeft) return;
      hasLeft = true;
      const next = this.takeNext();
      if (next) next.resolve(true);
      else this.free++;
    };
  }

  private takeNext(): Waiting | undefined {
    let first = 0;
    for (const [index, { held }] of this.waiting.entries()) {
      if (held < this.waiting[first]!.held) first = index;
    }
    return this.waiting.splice(first, 1)[0];
  }

  /** Nobody starts from now on, who waits included: the process stops. */
  close(): void {
    this.isClosed = true;
    for (const { resolve } of this.waiting.splice(0)) resolve(false);
  }
}
