/**
 * Marks by which chat templates tell a model who speaks, or that a turn ends. A server that does not guard its template
 * would take them for its own: in what people and models wrote they arrive broken, by a space after their first character.
 *
 * The families: ChatML, Llama 3, Phi and Qwen (`<|im_start|>`), DeepSeek (`<｜User｜>`), Gemma (`<start_of_turn>`), Llama 2
 * and Mistral (`<s>`, `[INST]`, `<<SYS>>`), and the special tokens of T5 and BERT (`<pad>`, `[SEP]`).
 */
const CONTROL_TOKENS = new RegExp(
  [
    '<(?=[|｜])',
    '<(?=<\\s*/?\\s*SYS\\s*>>)',
    `<(?=/?(?:${[
      's',
      'bos',
      'eos',
      'eot',
      'eom',
      'pad',
      'unk',
      'sep',
      'cls',
      'mask',
      'endoftext',
      '(?:start|end)_of_\\w+',
      'extra_id_\\d+',
      'tool_call',
      'tool_response',
      'think',
    ].join('|')})\\s*>)`,
    '\\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|PREFIX|SUFFIX|MIDDLE|CLS|SEP|PAD|UNK|MASK|gMASK|BOS|EOS)\\])',
  ].join('|'),
  'giu',
);

/** A text in which no control token of a chat template is left whole. */
export const withBrokenControlTokens = (text: string): string => text.replace(CONTROL_TOKENS, '$& ');
