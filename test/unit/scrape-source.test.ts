import { describe, expect, it } from '@jest/globals';
import { ScrapeSource } from '../../src/metrics/scrape-source.js';

const TIMINGS = { scrapeTimeoutMs: 50, scrapeFreshMs: 600_000 };

describe('a source of metrics', () => {
  it('is asked once by many scrapes', async () => {
    let reads = 0;
    const shown: (number | null)[] = [];
    const source = new ScrapeSource(
      async () => ++reads,
      (value) => shown.push(value),
      TIMINGS,
    );

    const together = await Promise.all(Array.from({ length: 100 }, () => source.refresh()));
    const after = await source.refresh();

    expect([...together, after].every((isUp) => isUp)).toBe(true);
    expect(shown).toEqual([1]);
  });

  it('that hangs or fails holds nobody up, and shows that nothing is known', async () => {
    for (const read of [
      () => new Promise<number>(() => undefined),
      () => Promise.reject(new Error('down')),
    ]) {
      const shown: (number | null)[] = [];
      const source = new ScrapeSource(read, (value) => shown.push(value), TIMINGS);

      const answers = await Promise.all([source.refresh(), source.refresh()]);

      expect(answers).toEqual([false, false]);
      expect(shown).toEqual([null]);
      expect(await source.refresh()).toBe(false); // not asked again at once
      expect(shown).toHaveLength(1);
    }
  });
});
