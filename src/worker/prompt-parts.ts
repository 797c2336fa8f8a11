import type { ChatTurn } from '../llm/llm-client.js';
import { countTokensGently } from '../llm/tokens.js';
import type { Breather } from '../runtime/breather.js';

/** A text, with the tokens that it takes as it stands in a prompt. */
export interface CountedText {
  text: string;
  tokens: number;
}

/** Turns, with the tokens that they take of a prompt. */
export interface CountedTurns {
  turns: ChatTurn[];
  tokens: number;
}

/** Role and separators, as OpenAI's chat format counts them. */
const TURN_OVERHEAD_TOKENS = 4;
/** Stands where something is left out. */
export const CUT_MARK = '[…]';
/** How much less is taken than a cut in proportion would take, since tokens are not spread evenly. */
const CUT_FACTOR = 0.95;

/** @param stopAt the count at which the answer is known to be "too many" */
export const countTurn = async (
  { content }: ChatTurn,
  breather: Breather,
  stopAt = Infinity,
): Promise<number> => (await countTokensGently(content, breather, stopAt)) + TURN_OVERHEAD_TOKENS;

/** The newest turns that fit, without a gap. */
export async function newestThatFit(
  turns: readonly ChatTurn[],
  roomTokens: number,
  breather: Breather,
): Promise<CountedTurns> {
  let restTokens = roomTokens;
  let start = turns.length;
  while (start > 0) {
    const tokens = await countTurn(turns[start - 1]!, breather, restTokens + 1);
    if (tokens > restTokens) break;
    restTokens -= tokens;
    start--;
  }
  return { turns: turns.slice(start), tokens: roomTokens - restTokens };
}

/**
 * The beginning and the end of a text, with a mark for what is left out between them.
 *
 * @param count the tokens that a text takes as it stands in the prompt
 * @returns what fits; where not even the mark does, the mark
 */
export async function shortened(
  text: string,
  roomTokens: number,
  count: (text: string) => Promise<number>,
): Promise<CountedText> {
  let chars = text.length;
  let cut: CountedText = { text, tokens: await count(text) };
  while (cut.tokens > roomTokens && chars > 0) {
    chars = Math.max(0, Math.min(chars - 1, Math.floor((chars * roomTokens * CUT_FACTOR) / cut.tokens)));
    const beginning = text.slice(0, Math.ceil(chars / 2));
    const end = text.slice(text.length - Math.floor(chars / 2));
    const short = `${beginning}${CUT_MARK}${end}`.toWellFormed();
    cut = { text: short, tokens: await count(short) };
  }
  return cut;
}
