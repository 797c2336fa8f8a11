import { setImmediate as nextTurn } from 'node:timers/promises';

/** Longest that work on people's text computes before others have their turn, in milliseconds. */
const STRETCH_MS = 5;

/** Lets a long computation give way: to be asked between two steps, each of which takes a few milliseconds at most. */
export class Breather {
  private since = performance.now();

  /** Gives the event loop a turn, where the last one was too long ago. */
  async pause(): Promise<void> {
    if (performance.now() - this.since < STRETCH_MS) return;
    await nextTurn();
    this.since = performance.now();
  }
}
