import { Inject, Injectable } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';

/** Connections that a starting attempt uses at once: it reads in four statements. */
const CONNECTIONS_OF_A_START = 4;

/**
 * Lets attempts start a few at a time: from the claim to the call of the model. A herd of replies that all start at
 * once would take all connections of the pool, and those that run would not get one for their heartbeats and their ends.
 * Who waits here has claimed nothing yet, so it loses nothing.
 */
@Injectable()
export class StartGate {
  private free: number;
  private readonly waiting: ((isIn: boolean) => void)[] = [];
  private isClosed = false;

  constructor(@Inject(CONFIG) config: Pick<Config, 'DATABASE_POOL_MAX'>) {
    this.free = Math.max(1, Math.floor(config.DATABASE_POOL_MAX / CONNECTIONS_OF_A_START));
  }

  /**
   * Waits for its turn, first come first served.
   *
   * @returns what gives the turn to the next, and may be called more than once; null where the gate is closed
   */
  async enter(): Promise<(() => void) | null> {
    if (this.isClosed) return null;
    if (this.free > 0) this.free--;
    else if (!(await new Promise<boolean>((resolve) => this.waiting.push(resolve)))) return null;
    let hasLeft = false;
    return () => {
      if (hasLeft) return;
      hasLeft = true;
      const next = this.waiting.shift();
      if (next) next(true);
      else this.free++;
    };
  }

  /** Nobody starts from now on, who waits included: the process stops. */
  close(): void {
    this.isClosed = true;
    for (const resolve of this.waiting.splice(0)) resolve(false);
  }
}
