/**
 * Why providers say that an answer ended. "OpenAI-compatible" servers name it in many words; what matters is which of
 * four things they mean. Surveyed: OpenAI, Azure OpenAI, Anthropic, Google (Gemini, Vertex), Cohere, Mistral,
 * DeepSeek, xAI, Groq, Together, Fireworks, OpenRouter, Perplexity, Bedrock, watsonx, Qwen (DashScope), Zhipu GLM,
 * MiniMax, Hunyuan, ERNIE, vLLM, SGLang, llama.cpp, LM Studio, Ollama, TGI, TensorRT-LLM, MLC, LiteLLM.
 */
export const FinishKind = {
  /** The model had said all that it wanted to. */
  Whole: 'whole',
  /** A limit of tokens or of the context cut it; what there is may be shown. */
  Length: 'length',
  /** A filter of the provider, or the model's own refusal, cut it. */
  Filtered: 'filtered',
  /** The provider aborted, failed or had no resources: the attempt is broken, whatever text came. */
  Broken: 'broken',
  /** Nobody here knows the word. */
  Unknown: 'unknown',
} as const;
export type FinishKind = (typeof FinishKind)[keyof typeof FinishKind];

/** Compared in lower case without anything but letters and digits: `MAX_TOKENS`, `max-tokens` and `maxTokens` are one. */
const REASONS: Readonly<Record<Exclude<FinishKind, 'unknown'>, readonly string[]>> = {
  whole: [
    'stop',
    'stopped',
    'stop_sequence',
    'stop_sequences',
    'stop_string',
    'stop_string_found', // LM Studio
    'stop_word',
    'stop_words', // TensorRT-LLM
    'stop_token',
    'stop_criteria',
    'eos',
    'eos_token', // TGI, watsonx
    'eos_token_id',
    'eos_found', // LM Studio
    'end_id', // TensorRT-LLM
    'end',
    'end_turn', // Anthropic, Bedrock
    'end_of_turn',
    'end_of_text',
    'end_of_sequence',
    'end_of_stream',
    'complete', // Cohere
    'completed',
    'done',
    'finish',
    'finished',
    'success',
    'succeeded',
    'ok',
    'normal', // ERNIE
    'word', // llama.cpp, a stop word
    // Tools are never offered; a server that says so all the same has ended the text like a stop.
    'tool_call',
    'tool_calls',
    'tool_use',
    'function_call',
    'function_calls',
  ],
  length: [
    'length',
    'max_length',
    'model_length', // Mistral
    'limit', // llama.cpp
    'max_tokens', // Anthropic, Cohere, Google, Bedrock
    'max_token',
    'max_tokens_reached',
    'max_output_tokens',
    'max_new_tokens',
    'max_completion_tokens',
    'max_predicted_tokens_reached', // LM Studio
    'max_output',
    'token_limit', // watsonx
    'token_limit_reached',
    'context', // Reka
    'context_length',
    'context_length_exceeded',
    'context_length_reached', // LM Studio
    'context_window_exceeded',
    'context_limit',
    'model_context_window_exceeded', // Anthropic, Zhipu
    'error_limit', // Cohere v1
    'truncated',
    'incomplete',
  ],
  filtered: [
    'content_filter', // OpenAI, Azure; Google's compatible endpoint adds the cause behind a colon
    'content_filtered', // Bedrock
    'filter',
    'filtered',
    'safety', // Google
    'recitation',
    'language',
    'blocklist',
    'blocked',
    'block',
    'prohibited_content',
    'spii',
    'image_safety',
    'image_prohibited_content',
    'image_recitation',
    'model_armor',
    'sensitive', // Zhipu, Hunyuan
    'moderation',
    'moderated',
    'refusal', // Anthropic
    'refused',
    'guardrail',
    'guardrails',
    'guardrail_intervened', // Bedrock
    'guardrail_violation',
    'error_toxic', // Cohere v1
    'toxic',
    'policy_violation',
    'jailbreak',
  ],
  broken: [
    'error', // OpenRouter, Mistral, Cohere, vLLM
    'errored',
    'internal_error',
    'server_error',
    'exception',
    'failed', // LM Studio
    'failure',
    'abort', // vLLM, SGLang
    'aborted',
    'cancel',
    'canceled',
    'cancelled', // watsonx, TensorRT-LLM
    'user_cancel', // Cohere
    'user_stopped', // LM Studio
    'interrupted',
    'disconnect',
    'disconnected',
    'connection_error',
    'network_error', // Zhipu
    'timeout', // Cohere
    'timed_out', // TensorRT-LLM
    'time_limit', // watsonx
    'deadline_exceeded',
    'overloaded',
    'overloaded_error',
    'rate_limit',
    'rate_limited',
    'insufficient_system_resource', // DeepSeek
    'insufficient_system_resources',
    'insufficient_resources',
    'resource_exhausted',
    'out_of_memory',
    'oom',
    'preempted',
    'evicted',
    'unavailable',
    'load', // Ollama: the model was loaded, and nothing generated
    'unload',
    'model_unloaded', // LM Studio
    'pause_turn', // Anthropic: to be continued by a further request
    'repetition', // vLLM: stopped because the model went round in circles
    'other', // Google: stopped for a reason that it does not name
    'image_other',
    'no_image',
    'malformed_response',
    'malformed_function_call',
    'malformed_model_output', // Bedrock
    'malformed_tool_use',
    'unexpected_tool_call',
    'too_many_tool_calls',
    'missing_thought_signature',
    'function_call_filter', // Google's compatible endpoint
  ],
};

/** What some servers say while the answer goes on: no reason at all. */
const NO_REASON = [
  '',
  'null',
  'none',
  'nil',
  'undefined',
  'false',
  'unspecified',
  'finish_reason_unspecified', // Google
  'not_finished', // watsonx, TensorRT-LLM
  'unfinished',
  'in_progress',
  'running',
  'continue',
  'pending',
];

const simplified = (word: string): string => word.toLowerCase().replaceAll(/[^a-z0-9]/g, '');

const KINDS: ReadonlyMap<string, FinishKind> = new Map(
  Object.entries(REASONS).flatMap(([kind, words]) =>
    words.map((word): [string, FinishKind] => [simplified(word), kind as FinishKind]),
  ),
);
const NO_REASONS: ReadonlySet<string> = new Set(NO_REASON.map(simplified));

/** A word of a program, short enough for a log line and never a text. */
const TOKEN = /^[\w.:-]{1,64}$/;

export interface Finish {
  kind: FinishKind;
  /** As the provider wrote it, for the log; `unprintable` where that is no word. */
  word: string;
}

/**
 * What a chunk's `finish_reason` means; null where it is none: absent, empty, or a word for "not yet".
 *
 * @param value whatever the provider sent: a word, or SGLang's `{ type: … }`
 */
export function readFinishReason(value: unknown): Finish | null {
  const said = typeof value === 'object' && value !== null && 'type' in value ? value.type : value;
  if (typeof said !== 'string') return null;
  // "FinishReason.STOP", "FINISH_REASON_STOP", and Google's "content_filter: RECITATION".
  const word = said.trim().split(/[:\s]/, 1)[0] ?? '';
  const key = simplified(word).replace(/^(finishreason|stopreason)(?=.)/, '');
  if (NO_REASONS.has(key) || NO_REASONS.has(simplified(word))) return null;
  return { kind: KINDS.get(key) ?? FinishKind.Unknown, word: TOKEN.test(said) ? said : 'unprintable' };
}
