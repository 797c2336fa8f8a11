import { type Finish, FinishKind, readFinishReason } from './finish-reasons.js';
import { FinishReason, LlmError, LlmErrorCode, type LlmChunk } from './llm-client.js';
import { ThoughtFilter } from './thoughts.js';
import { WellFormedText } from './well-formed.js';

/** What a server calls its model is its own affair, and goes into logs and traces. */
const MAX_MODEL_NAME_CHARS = 255;
/** PostgreSQL's `integer`, in which counts are stored. */
const MAX_COUNT = 2_147_483_647;

/** Parts of a message that are shown; whatever else a list of parts holds is not. */
const TEXT_PARTS: ReadonlySet<unknown> = new Set(['text', 'output_text', undefined]);
/** Where servers put what a model thinks, beside its text. */
const THOUGHT_FIELDS = ['reasoning', 'reasoning_content', 'reasoning_details', 'thinking', 'thinking_blocks'];

/**
 * Makes an answer of a provider's chunks, whatever their shape: servers differ, and nothing about them is checked
 * before. What is not text or its end never costs the text.
 *
 * A reason to finish is a claim that the stream has to bear out. Some servers give one with every chunk, or at the end
 * of the thoughts. So an answer ends where the stream ends, or where nothing more comes after its reason; and it is
 * whole only where its last reason means so.
 */
export class AnswerReader {
  private readonly text = new WellFormedText();
  private readonly thoughts: ThoughtFilter;
  private hasText = false;
  private hasThoughtApart = false;
  private isThinkingApart = false;
  private isRefusal = false;
  private finish: Finish | null = null;
  /** Text came after the last reason. */
  private hasTextAfterReason = false;
  /** Text came after a reason, so that this server's reasons are no sign of an end. */
  private isReasonMeaningless = false;
  /** Whether the last reason came in a chunk of its own, as an end does. */
  hasEndAlone = false;
  private isDone = false;
  private model: string | undefined;
  private usage: LlmChunk | null = null;

  constructor(thinksFirst: boolean) {
    this.thoughts = new ThoughtFilter(thinksFirst);
  }

  /** Whether something to show has come, or a refusal, or an end. */
  get hasBegun(): boolean {
    return this.hasText || this.isRefusal || (this.finish !== null && !this.isThinking);
  }

  /** Whether the last chunk was thought, and nothing is to be shown yet. */
  get isThinking(): boolean {
    return !this.hasText && (this.isThinkingApart || this.thoughts.isThinking);
  }

  /** Whether the answer has its end, as far as one can tell: only silence, or the end of the stream, is missing. */
  get isSettled(): boolean {
    if (!this.finish || this.isReasonMeaningless || this.hasTextAfterReason) return false;
    if (this.finish.kind === FinishKind.Whole) return this.hasText || this.isRefusal;
    return this.finish.kind === FinishKind.Length || this.finish.kind === FinishKind.Filtered;
  }

  /** The provider has said that nothing follows. */
  markDone(): void {
    this.isDone = true;
  }

  /** @returns the text of this chunk that can be shown for certain */
  read(chunk: unknown): string {
    if (!isObject(chunk)) return '';
    this.readAside(chunk);
    const choice = firstChoice(chunk['choices']);
    if (!choice) return '';
    const said = isObject(choice['delta']) ? choice['delta'] : this.hasText ? {} : choice['message'];
    const { content, refusal } = isObject(said) ? said : {};
    const raw = textOf(content ?? (said === undefined ? choice['text'] : undefined));
    this.isRefusal ||= (typeof refusal === 'string' && refusal !== '') || hasRefusal(content);
    this.isThinkingApart = raw === '' && (thinksIn(said) || hasThought(content));
    this.hasThoughtApart ||= this.isThinkingApart;
    const text = this.text.push(this.thoughts.push(raw));
    this.hasText ||= text.trim() !== '';
    if (raw !== '' && this.finish) {
      this.hasTextAfterReason = true;
      this.isReasonMeaningless = true;
    }
    const finish = readFinishReason(choice['finish_reason']);
    if (finish) {
      this.finish = finish;
      this.hasTextAfterReason = false;
      this.hasEndAlone = raw === '';
    }
    return text;
  }

  private readAside(chunk: Record<string, unknown>): void {
    const { model, usage } = chunk;
    if (typeof model === 'string' && model !== '') this.model = model.slice(0, MAX_MODEL_NAME_CHARS);
    if (!isObject(usage)) return; // some servers count along with every chunk: the last count is the whole
    this.usage = {
      type: 'usage',
      inputTokens: countOf(usage['prompt_tokens']),
      outputTokens: countOf(usage['completion_tokens']),
    };
  }

  /**
   * The stream has ended. What is left of the text, then the finish and the usage; no finish where the answer was cut.
   *
   * @throws LlmError where the provider says that it broke off
   */
  *end(): Generator<LlmChunk, void, undefined> {
    const rest = this.text.push(this.thoughts.end()) + this.text.end();
    if (rest !== '') yield { type: 'text', text: rest };
    const { finish } = this;
    if (finish && !(this.hasTextAfterReason && !this.isDone)) {
      if (finish.kind === FinishKind.Broken) {
        throw new LlmError(LlmErrorCode.ProviderUnavailable, `The provider broke off: ${finish.word}`, {
          isRetryable: true,
        });
      }
      yield {
        type: 'finish',
        reason: toFinishReason(finish.kind),
        isRefusal: this.isRefusal,
        model: this.model,
        ...((this.thoughts.hasThought || this.hasThoughtApart) && { hasThought: true }),
        ...(finish.kind === FinishKind.Unknown && { unknownReason: finish.word }),
      };
    }
    if (this.usage) yield this.usage;
  }
}

function toFinishReason(kind: FinishKind): FinishReason {
  if (kind === FinishKind.Length) return FinishReason.Length;
  return kind === FinishKind.Filtered ? FinishReason.ContentFilter : FinishReason.Stop;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

/** The only choice that is asked for: the one at 0, or the first without a number. */
function firstChoice(choices: unknown): Record<string, unknown> | undefined {
  const list: unknown[] = Array.isArray(choices) ? choices : [choices];
  return list
    .filter(isObject)
    .find(({ index }) => index === undefined || index === null || Number(index) === 0);
}

/** A string, or a list of parts of which the texts count. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (Array.isArray(content)) return content.map(textOf).join('');
  if (!isObject(content) || !TEXT_PARTS.has(content['type'])) return '';
  const { text } = content;
  if (typeof text === 'string') return text;
  return isObject(text) && typeof text['value'] === 'string' ? text['value'] : '';
}

const partsOf = (content: unknown): Record<string, unknown>[] =>
  (Array.isArray(content) ? content : [content]).filter(isObject);

const hasRefusal = (content: unknown): boolean => partsOf(content).some(({ type }) => type === 'refusal');

const hasThought = (content: unknown): boolean => partsOf(content).some(({ type }) => !TEXT_PARTS.has(type));

const thinksIn = (said: unknown): boolean =>
  isObject(said) &&
  THOUGHT_FIELDS.some((field) => {
    const value = said[field];
    return Array.isArray(value) || typeof value === 'string' ? value.length > 0 : isObject(value);
  });

/** A count of tokens as it can be stored; null for anything that is none. */
const countOf = (value: unknown): number | null =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_COUNT ? value : null;
