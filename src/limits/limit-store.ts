/** One thing to count. */
export interface Hit {
  max: number;
  windowSeconds: number;
  /** What it is counted by; ids and networks, no text. */
  key: string;
}

/** What was too much. */
export interface Exceeded {
  /** Which of the hits, by its place. */
  index: number;
  retryAfterMs: number;
}

/** Where hits are counted, for all processes together. */
export abstract class LimitStore {
  /**
   * Counts hits one after the other, up to the first that is too much: so what one caller has too much does not use up
   * what others share.
   *
   * @param hits the narrowest first: in this order, so that no two requests wait for each other
   * @returns null where none was
   * @throws where the store does not answer
   */
  abstract take(hits: readonly Hit[]): Promise<Exceeded | null>;
  abstract close(): Promise<void>;
}
