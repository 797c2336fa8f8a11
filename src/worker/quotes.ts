import { LlmError } from '../llm/llm-client.js';

/**
 * A provider's error often quotes what it refuses, and the log takes no text that people, or the model, wrote. So its
 * words are kept only where they have nothing in common with the conversation; status, codes and the provider's
 * request id are kept in any case.
 */

/** So many characters in a row that are the same are a quotation: about three words. */
const QUOTE_CHARS = 12;
/** A whole text may be shorter than that; of those below this length, nothing can be told. */
const MIN_TEXT_CHARS = 4;
/** Looking through so many takes some ten milliseconds; of a longer conversation the words are not kept. */
const MAX_COMPARED_CHARS = 400_000;

const WITHHELD = "not shown: the provider's words quote the conversation, or may";

/** @param texts all that people and the model have said in this call */
export function withoutQuotes(error: unknown, texts: readonly string[]): unknown {
  if (!(error instanceof LlmError) || error.options.cause === undefined) return error; // our own words
  const { cause: _, ...options } = error.options; // its words are in the message
  const message = quotes(error.message, texts) ? WITHHELD : error.message;
  const cleaned = new LlmError(error.code, message, options);
  cleaned.stack = error.stack;
  return cleaned;
}

/** Whether a message holds a piece of one of the texts, whatever became of its punctuation, case and escapes. */
export function quotes(message: string, texts: readonly string[]): boolean {
  if (texts.reduce((sum, text) => sum + text.length, 0) > MAX_COMPARED_CHARS) return true;
  const words = ` ${wordsOf(message)} `;
  const pieces = new Set<string>();
  for (let at = 0; at + QUOTE_CHARS <= words.length; at++) pieces.add(words.slice(at, at + QUOTE_CHARS));
  return texts.some((text) => {
    const sought = wordsOf(text);
    if (sought.length < QUOTE_CHARS) return sought.length >= MIN_TEXT_CHARS && words.includes(` ${sought} `);
    for (let at = 0; at + QUOTE_CHARS <= sought.length; at++) {
      if (pieces.has(sought.slice(at, at + QUOTE_CHARS))) return true;
    }
    return false;
  });
}

/** Letters and digits in lower case, with one space for all that stands between them. */
function wordsOf(text: string): string {
  return text
    .replaceAll(/\\u([0-9a-f]{4})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
    .replaceAll(/\\[nrt]/g, ' ')
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}
