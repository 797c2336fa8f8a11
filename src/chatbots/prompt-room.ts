import { withBrokenControlTokens } from '../llm/control-tokens.js';
import { tokensAtMost } from '../llm/tokens-at-most.js';
import { NOT_IN_NAMES } from '../runtime/names.js';

/**
 * What a chatbot's own texts take of a prompt, and what room there is for them. An api tells the owner, a worker builds
 * the prompt, and both go by this file: a chatbot whose texts do not exceed it has all of them in every prompt.
 */

/** What people wrote, as it stands in the system turn: no control token is whole, and without a "<" no tag can be. */
const escaped = (text: string): string => withBrokenControlTokens(text).replaceAll('<', '&lt;');

const tagged = (tag: string, text: string): string => `<${tag}>\n${escaped(text)}\n</${tag}>\n`;

/** A characteristic as it stands in a prompt. */
export const characteristicPart = (content: string): string => tagged('characteristic', content);

/** The instructions as they stand in a prompt, with what the model is told of them. */
export const instructionsPart = (instructions: string): string =>
  `${ABOUT_INSTRUCTIONS}\n\n${tagged('instructions', instructions)}`;

const ABOUT_INSTRUCTIONS =
  'How to behave, in the words of the one whose chatbot you are, stands between <instructions> and </instructions>. Follow it as far as the rules above allow.';

/** What a text takes at most, for a process that does not count: a worker does. */
export const tokensOfCharacteristic = (content: string): number => tokensAtMost(characteristicPart(content));
export const tokensOfInstructions = (instructions: string): number =>
  tokensAtMost(instructionsPart(instructions));

/** A name as it stands in a prompt: on one line, in quotes. */
export const quoted = (name: string): string => JSON.stringify(escaped(name.replace(NO_NAME, ' ').trim()));

/** Names that were stored before they were checked may hold what none may; and white space of any kind. */
const NO_NAME = new RegExp(`(?:${NOT_IN_NAMES.source}|\\s)+`, 'gu');

/** Of what the rules leave: most that the instructions take; what is longer is shortened. */
const INSTRUCTIONS_SHARE = 1 / 2;
/** Of what rules and instructions leave: most that the question takes. */
const QUESTION_SHARE = 1 / 2;
/** Of what rules and instructions leave: what the characteristics have in any case. */
const CHARACTERISTICS_LEAST_SHARE = 2 / 5;
/** Of what the question leaves, too: what the characteristics have; the history gets the rest. */
const CHARACTERISTICS_SHARE = 3 / 5;
/** However small the prompt, so much of the question has to be in it. */
const QUESTION_LEAST_TOKENS = 64;

/**
 * Most tokens of a prompt without the chatbot's name and texts, the history and the question: the rules, a guest's name
 * of the longest kind, the priming. `test/unit/prompt` holds real prompts against it.
 */
export const FRAME_TOKENS = 700;

/** @param roomTokens what the rules leave of a prompt */
export const instructionsRoom = (roomTokens: number): number =>
  Math.max(0, Math.floor(roomTokens * INSTRUCTIONS_SHARE));

/** @param roomTokens what rules and instructions leave of a prompt */
export const questionRoom = (roomTokens: number): number =>
  Math.max(QUESTION_LEAST_TOKENS, Math.floor(roomTokens * QUESTION_SHARE));

/**
 * @param roomTokens what rules and instructions leave of a prompt
 * @param questionTokens what the question takes of it
 */
export const characteristicsRoom = (roomTokens: number, questionTokens: number): number =>
  Math.max(
    0,
    Math.floor(roomTokens * CHARACTERISTICS_LEAST_SHARE),
    Math.floor((roomTokens - questionTokens) * CHARACTERISTICS_SHARE),
  );

/**
 * Whether some prompt may not hold all of a chatbot's texts.
 *
 * @param instructionsTokens tokens of {@link instructionsPart}, 0 where there are no instructions
 * @param characteristicsTokens tokens of {@link characteristicPart}, of all characteristics
 * @param maxTokens the limit of the whole prompt
 */
export function exceedsPrompt(
  { name, instructionsTokens, characteristicsTokens }: PromptTexts,
  maxTokens: number,
): boolean {
  const roomTokens = maxTokens - FRAME_TOKENS - tokensAtMost(quoted(name));
  if (instructionsTokens > instructionsRoom(roomTokens)) return true;
  const restTokens = roomTokens - instructionsTokens;
  return characteristicsTokens > characteristicsRoom(restTokens, questionRoom(restTokens));
}

interface PromptTexts {
  name: string;
  instructionsTokens: number;
  characteristicsTokens: number;
}
