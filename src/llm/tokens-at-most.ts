/**
 * How many tokens a text has at most, told from its length and script alone: for a process that has no use for the
 * tokenizer, whose table takes 23 MB. Never below `countTokens()`; of ordinary text three to four times as much.
 *
 * A token is at least one byte of UTF-8, so a text has no more tokens than bytes. Two properties of the encoding
 * lower that bound, and `test/unit/tokens-at-most.test.ts` proves both against its table:
 * - The common letters of many alphabets are one token each, though two or three bytes.
 * - Merging ends when no two neighbours are a token together. Any two of the {@link PAIRING} letters are one, so two
 *   of them never stay single side by side: at most two tokens come of three letters.
 */

/** `countTokens()` counts pieces of this length, which may cost one token more at each cut. */
export const PIECE_CHARS = 512;

/** Small letters of which any two are a token, and the space that belongs to the word behind it. */
export const PAIRING = / ?[a-il-pr-wy]+/g;

/** Characters of several bytes that are one token each. */
export const SINGLE = new RegExp(
  `[${[
    '\\u00a0-\\u00da\\u00dc-\\u0109', // Latin
    '\\u1ea0-\\u1ea9\\u1eab-\\u1eaf\\u1eb5-\\u1eb9\\u1ebd-\\u1ec3\\u1ec5-\\u1ec7\\u1ec9-\\u1ecd', // Vietnamese
    '\\u1ecf-\\u1ed5\\u1ed7-\\u1edf\\u1ee1-\\u1ee9\\u1eef-\\u1ef1\\u1ef3\\u1ef7\\u1ef9',
    '\\u0391-\\u03a1\\u03a3-\\u03a9\\u03ac-\\u03af\\u03b1-\\u03ce', // Greek
    '\\u0404-\\u0408\\u0410-\\u044f\\u0451-\\u045c', // Cyrillic
    '\\u05d0-\\u05ea', // Hebrew
    '\\u060c\\u061f\\u0621-\\u063a\\u0640-\\u0654\\u0660-\\u066c\\u067e\\u0686\\u0698\\u06a9\\u06af\\u06cc\\u06d4', // Arabic
    '\\u0901-\\u0903\\u0905-\\u090a\\u090f-\\u0911\\u0913-\\u0928\\u092a-\\u0933\\u0935-\\u0939', // Devanagari
    '\\u093c-\\u0943\\u0947-\\u0949\\u094b-\\u094d\\u0964-\\u0970',
    '\\u0981-\\u0983\\u0985-\\u0987\\u0995-\\u09a8\\u09aa-\\u09b0\\u09b2\\u09b6-\\u09b9\\u09be-\\u09c3\\u09c7-\\u09c8\\u09cb-\\u09ce', // Bengali
    '\\u0b85-\\u0b87\\u0b95\\u0b9f\\u0ba3-\\u0ba4\\u0ba8-\\u0baa\\u0bae-\\u0bb5\\u0bbe-\\u0bc2\\u0bc6-\\u0bc8\\u0bcd', // Tamil
    '\\u0e01-\\u0e02\\u0e06-\\u0e0b\\u0e0d-\\u0e11\\u0e13-\\u0e25\\u0e27-\\u0e39\\u0e40-\\u0e44\\u0e46-\\u0e4d', // Thai
    '\\u3001-\\u3002\\u3041-\\u3042\\u3044\\u3046-\\u3048\\u304a-\\u3061\\u3063-\\u306b\\u306d-\\u3073', // kana
    '\\u3075-\\u3079\\u307b-\\u308d\\u308f\\u3092-\\u3093\\u30a1-\\u30a4\\u30a6-\\u30c1\\u30c3-\\u30c4',
    '\\u30c6-\\u30cb\\u30cd-\\u30ed\\u30ef\\u30f3-\\u30f4\\u30fb-\\u30fd',
    '\\u2013-\\u2014\\u2018-\\u201a\\u201c-\\u2022\\u2026\\uff01\\uff08-\\uff27', // punctuation
  ].join('')}]`,
  'g',
);

/** An upper bound of `countTokens(text)`, for any string. */
export function tokensAtMost(text: string): number {
  let tokens = Math.floor(text.length / PIECE_CHARS);
  for (const [run] of text.matchAll(PAIRING)) tokens += Math.floor((2 * run.length + 1) / 3);
  const rest = text.replaceAll(PAIRING, '');
  const inBytes = rest.replaceAll(SINGLE, '');
  return tokens + (rest.length - inBytes.length) + Buffer.byteLength(inBytes);
}
