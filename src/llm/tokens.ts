import { countTokens as countPiece, setMergeCacheSize } from 'gpt-tokenizer/encoding/o200k_base';
import { Breather } from '../runtime/breather.js';
import { PIECE_CHARS } from './tokens-at-most.js';

/** By default special tokens are refused with an exception; in a guest's text they are text. */
const AS_PLAIN_TEXT = { disallowedSpecial: new Set<string>() };

// The library's cache of 100,000 words would keep what guests wrote alive in memory, for little speed.
setMergeCacheSize(0);

/**
 * An estimate of the tokens in a text (the o200k encoding; other models' differ by some per cent). Any string
 * is safe to count.
 *
 * Merging byte pairs takes time quadratic in the length of a word, and a guest may send a word of 32,000
 * letters. Counting piece by piece makes it linear, for at most a token or two too many at each cut.
 *
 * @param stopAt the count at which the answer is known to be "too many": counting ends soon after it
 */
export function countTokens(text: string, stopAt = Infinity): number {
  let tokens = 0;
  for (let start = 0; start < text.length && tokens < stopAt; start += PIECE_CHARS) {
    tokens += countPiece(text.slice(start, start + PIECE_CHARS), AS_PLAIN_TEXT);
  }
  return tokens;
}

/** The same, for texts of any length: gives way to others between two pieces. */
export async function countTokensGently(
  text: string,
  breather: Breather,
  stopAt = Infinity,
): Promise<number> {
  let tokens = 0;
  for (let start = 0; start < text.length && tokens < stopAt; start += PIECE_CHARS) {
    tokens += countPiece(text.slice(start, start + PIECE_CHARS), AS_PLAIN_TEXT);
    await breather.pause();
  }
  return tokens;
}
