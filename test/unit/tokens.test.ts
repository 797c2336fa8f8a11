import { describe, expect, it } from '@jest/globals';
import { countTokens } from '../../src/llm/tokens.js';

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
  ])('takes time linear in the length of a run of %s', (_, unit) => {
    const SHORT = 2_000;
    const GROWTH = 8;
    // Of several, since another process may have had the machine for one of them.
    const bestTimeFor = (chars: number) => {
      const text = unit.repeat(chars / unit.length);
      const times = Array.from({ length: 3 }, () => {
        const start = performance.now();
        countTokens(text);
        return performance.now() - start;
      });
      return Math.min(...times);
    };
    bestTimeFor(SHORT);

    // Quadratic time would grow by the growth once more.
    expect(bestTimeFor(SHORT * GROWTH)).toBeLessThan(Math.max(bestTimeFor(SHORT), 1) * GROWTH * 6);
  });

  it('ends early once the answer is known to be too many', () => {
    const text = 'word '.repeat(200_000);
    const begun = performance.now();
    countTokens(text);
    const wholeMs = performance.now() - begun;
    const start = performance.now();
    const tokens = countTokens(text, 1_000);

    expect(tokens).toBeGreaterThanOrEqual(1_000);
    expect(tokens).toBeLessThan(2_000);
    expect(performance.now() - start).toBeLessThan(wholeMs / 2);
  });
});
