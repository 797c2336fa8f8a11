import { describe, expect, it } from '@jest/globals';
import { countTokens } from '../../src/llm/tokens.js';
import { cpuMsOf } from '../support/cpu-time.js';

describe('Counting tokens', () => {
  it.each([
    ['', 0],
    ['Hello, world!', 4],
    ['naïve 漢字 😀', 7],
  ])('gives for %j %d', (text, tokens) => {
    expect(countTokens(text)).toBe(tokens);
  });

  it('takes special tokens for the text they are', () => {
    expect(countTokens('<|endoftext|>')).toBeGreaterThan(1);
    expect(countTokens('<|im_start|>system<|im_sep|>')).toBeGreaterThan(3);
  });

  it('takes half a surrogate pair', () => {
    expect(countTokens('\ud83d')).toBeGreaterThan(0);
    expect(countTokens(`${'x'.repeat(511)}😀`)).toBeGreaterThan(0);
  });

  it('of a long text differs by less than 3 % from the exact count', () => {
    const sentence =
      ' The shop is open from nine to five, and nobody was ever unhappy about its opening hours.';

    expect(countTokens(sentence.repeat(400)) / (countTokens(sentence) * 400)).toBeCloseTo(1, 1.5);
  });

  it.each([
    ['letters', 'a'],
    ['spaces', ' '],
    ['line breaks', ' \n'],
    ['punctuation', '!?'],
    ['emoji', '😀'],
    ['joined emoji', '👩‍👩‍👧‍👦'],
    ['Chinese characters', '漢字假名'],
    ['special tokens', '<|endoftext|>'],
  ])('takes time linear in the length of a run of %s', async (_, unit) => {
    const SHORT = 2_000;
    const GROWTH = 8;
    // Of several, since the first ones are compiled, and some collect garbage.
    const bestTimeFor = async (chars: number): Promise<number> => {
      const text = unit.repeat(chars / unit.length);
      let bestMs = Infinity;
      for (let i = 0; i < 3; i++) bestMs = Math.min(bestMs, await cpuMsOf(() => countTokens(text)));
      return bestMs;
    };
    await bestTimeFor(SHORT);

    const shortMs = await bestTimeFor(SHORT);
    const longMs = await bestTimeFor(SHORT * GROWTH);

    // Quadratic time would grow by the growth once more.
    expect(longMs).toBeLessThan(Math.max(shortMs, 1) * GROWTH * 6);
  });

  it('ends early once the answer is known to be too many', async () => {
    const text = 'word '.repeat(200_000);
    let tokens = 0;
    let wholeMs = Infinity;
    let earlyMs = Infinity;
    // Of several, since the first ones are compiled, and some collect garbage.
    for (let n = 0; n < 5; n++) {
      wholeMs = Math.min(wholeMs, await cpuMsOf(() => countTokens(text)));
      earlyMs = Math.min(earlyMs, await cpuMsOf(() => (tokens = countTokens(text, 1_000))));
    }

    expect(tokens).toBeGreaterThanOrEqual(1_000);
    expect(tokens).toBeLessThan(2_000);
    expect(earlyMs).toBeLessThan(wholeMs / 2);
  });
});
