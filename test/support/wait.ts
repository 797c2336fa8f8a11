/**
 * Awaits a condition instead of a time: looks again until it gives something, or the time is up. A look that hangs is
 * given up with the time.
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  { timeoutMs = 15_000, intervalMs = 25 } = {},
): Promise<NonNullable<T>> {
  const end = Date.now() + timeoutMs;
  let last: unknown;
  const { promise: late, reject } = Promise.withResolvers<never>();
  late.catch(() => undefined);
  const noAnswer = new Error('no answer');
  const giveUp = setTimeout(() => reject(noAnswer), timeoutMs);
  try {
    for (;;) {
      try {
        const found = await Promise.race([look(), late]);
        if (found) return found;
        last = found;
      } catch (error) {
        last = error === noAnswer ? (last ?? error) : error; // what was seen before says more
      }
      if (Date.now() >= end)
        throw new Error(`waited ${timeoutMs} ms for ${what}; the last look gave ${String(last)}`);
      await new Promise((resolve) => setTimeout(resolve, intervalMs));
    }
  } finally {
    clearTimeout(giveUp);
  }
}

const DAY_MS = 86_400_000;
/** What a test that counts by the day takes at most, on a busy machine. */
const OF_ONE_DAY_MS = 45_000;

/** Before a test that counts by the UTC day: awaits midnight where that would come in the middle of it. */
export async function whileTodayLasts(): Promise<void> {
  const leftMs = DAY_MS - (Date.now() % DAY_MS);
  if (leftMs < OF_ONE_DAY_MS) await new Promise((resolve) => setTimeout(resolve, leftMs + 1_000));
}
