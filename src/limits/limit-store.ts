/** One thing to count. */
export interface Hit {
  max: number;
  windowSeconds: number;
  /** What it is counted by; ids and networks, no text. */
  key: string;
}

/** What a hit came to. */
export interface Count {
  /** How many there were in its window, this one included. */
  hits: number;
  /** When the window is over. */
  resetMs: number;
}

/** A place is free again after so long where its process does not say that it is still in use: it may be no more. */
export const HOLD_SECONDS = 30;

/** Something of which there are only so many places. */
export interface Hold {
  max: number;
  key: string;
}

/** Places that are in use. */
export interface Held {
  keys: readonly string[];
  holder: string;
}

/** Where hits are counted, for all processes together. */
export abstract class LimitStore {
  /**
   * Counts hits one after the other, up to the first that is too much: so what one caller has too much does not use up
   * what others share.
   *
   * @param hits the narrowest first: in this order, so that no two requests wait for each other
   * @returns of each that was counted what it came to: the last of them may be too much
   * @throws where the store does not answer
   */
  abstract take(hits: readonly Hit[]): Promise<Count[]>;

  /**
   * Looks, and counts nothing.
   *
   * @returns null where there was no hit in its window
   * @throws where the store does not answer
   */
  abstract look(hit: Hit): Promise<Count | null>;

  /**
   * Takes a place of each of several, and none where one has no place left. It is kept for {@link HOLD_SECONDS}, and
   * longer where it is kept on.
   *
   * @param holder an id of its own
   * @returns of each, up to the first that had no place, how many are in use with this one: more than its most where it had none
   * @throws where the store does not answer
   */
  abstract hold(holds: readonly Hold[], holder: string): Promise<number[]>;
  /** Keeps places for as long again. */
  abstract keep(held: readonly Held[]): Promise<void>;
  abstract letGo(held: readonly Held[]): Promise<void>;
  abstract close(): Promise<void>;
}
