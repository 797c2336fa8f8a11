import { LlmError } from '../llm/llm-client.js';

/**
 * A provider's error often quotes what it refuses, and the log takes no text that people, or the model, wrote. So its
 * words are kept only where they have nothing in common with the conversation; status, codes and the provider's
 * request id are kept in any case.
 */

/** So many characters in a row that are the same are a quotation: about three words. */
const QUOTE_CHARS = 12;
/** A whole text may be shorter than that; one below this length is in any message by chance, and is not looked for. */
const MIN_TEXT_CHARS = 4;
/** Comparing so many takes some ten milliseconds; for a longer conversation the provider's words are withheld unseen. */
const MAX_COMPARED_CHARS = 400_000;

const WITHHELD = "not shown: the provider's words quote the conversation, or may";

/** @param texts everything that people and the model wrote in this call */
export function withoutQuotes(error: unknown, texts: readonly string[]): unknown {
  if (!(error instanceof LlmError) || error.options.cause === undefined) return error; // the message is ours
  const { cause: _, ...options } = error.options; // the message repeats it
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
