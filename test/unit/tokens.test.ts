import { describe, expect, it } from '@jest/globals';
import { countTokens } from '../../src/common/tokens.js';

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
    ['letters', 'a'.repeat(32_000)],
    ['spaces', ' '.repeat(32_000)],
    ['line breaks', ' \n'.repeat(16_000)],
    ['punctuation', '!?'.repeat(16_000)],
    ['emoji', '😀'.repeat(8_000)],
    ['joined emoji', '👩‍👩‍👧‍👦'.repeat(3_000)],
    ['Chinese characters', '漢字假名'.repeat(8_000)],
    ['special tokens', '<|endoftext|>'.repeat(2_500)],
  ])('takes less than a second for the longest run of %s', (_, text) => {
    const start = performance.now();
    countTokens(text);

    expect(performance.now() - start).toBeLessThan(1_000);
  });

  it('takes time linear in the length of a word', () => {
    const timeFor = (chars: number) => {
      const start = performance.now();
      countTokens('ab'.repeat(chars / 2));
      return performance.now() - start;
    };
    timeFor(32_000);

    expect(timeFor(512_000)).toBeLessThan(Math.max(timeFor(32_000), 5) * 16 * 4);
  });

  it('ends early once the answer is known to be too many', () => {
    const text = 'word '.repeat(1_000_000);
    const start = performance.now();
    const tokens = countTokens(text, 1_000);

    expect(tokens).toBeGreaterThanOrEqual(1_000);
    expect(tokens).toBeLessThan(2_000);
    expect(performance.now() - start).toBeLessThan(200);
  });
});
