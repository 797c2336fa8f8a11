/** The times of a chat, in milliseconds. */
export interface Timings {
  /** The shortest and the longest pause before a request is made again. */
  backoffMinMs: number;
  backoffMaxMs: number;
  /** A stream without a byte for so long is dead: the server sends a comment each 15 seconds. */
  silenceMs: number;
  /** Longest time to wait for the answer to a request. */
  requestTimeoutMs: number;
  /** How long a message that cannot be sent is tried for, before it is told as not sent. */
  giveUpMs: number;
}

export const TIMINGS: Timings = {
  backoffMinMs: 500,
  backoffMaxMs: 30_000,
  silenceMs: 40_000,
  requestTimeoutMs: 30_000,
  giveUpMs: 120_000,
};

/**
 * The pause before the next try: twice as long after each failure, and a random part of it taken off, so that those
 * who lost the same server do not all come back at once.
 */
export const backoffMs = (
  failures: number,
  { backoffMinMs, backoffMaxMs }: Pick<Timings, 'backoffMinMs' | 'backoffMaxMs'>,
  random: () => number = Math.random,
): number => Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.max(0, failures - 1)) * (0.5 + random() / 2);
