import { describe, expect, it } from '@jest/globals';
import { readFinishReason } from '../../src/llm/finish-reasons.js';

const kindOf = (value: unknown) => readFinishReason(value)?.kind ?? null;

describe('A reason to finish', () => {
  it.each([
    [
      'whole',
      ['stop', 'STOP', 'Stop', ' stop ', 'end_turn', 'eos_token', 'stop_sequence', 'COMPLETE', 'eosFound'],
    ],
    ['whole', ['FinishReason.STOP', 'FINISH_REASON_STOP', 'tool_calls', 'function_call', 'normal', 'END_ID']],
    [
      'length',
      ['length', 'MAX_TOKENS', 'max-tokens', 'maxTokens', 'model_length', 'ERROR_LIMIT', 'token_limit'],
    ],
    [
      'length',
      ['model_context_window_exceeded', 'maxPredictedTokensReached', 'contextLengthReached', 'limit'],
    ],
    ['filtered', ['content_filter', 'CONTENT_FILTER', 'SAFETY', 'RECITATION', 'PROHIBITED_CONTENT', 'SPII']],
    [
      'filtered',
      ['content_filter: RECITATION', 'guardrail_intervened', 'refusal', 'sensitive', 'ERROR_TOXIC'],
    ],
    [
      'broken',
      ['error', 'ERROR', 'abort', 'aborted', 'insufficient_system_resource', 'network_error', 'timeout'],
    ],
    ['broken', ['cancelled', 'TIMED_OUT', 'load', 'failed', 'modelUnloaded', 'OTHER', 'MALFORMED_RESPONSE']],
    ['broken', ['function_call_filter: MALFORMED_FUNCTION_CALL', 'pause_turn', 'overloaded', 'repetition']],
    ['unknown', ['because', 'x'.repeat(500), 'stopp']],
  ])('means "%s": %j', (kind, words) => {
    expect(words.map(kindOf)).toEqual(words.map(() => kind));
  });

  it.each([
    [null],
    [undefined],
    [''],
    ['null'],
    ['NULL'],
    ['None'],
    ['not_finished'],
    ['FINISH_REASON_UNSPECIFIED'],
    [false],
    [0],
    [7],
    [[]],
    [{}],
    [{ type: null }],
  ])('is none: %j', (value) => {
    expect(readFinishReason(value)).toBeNull();
  });

  it('may be an object that names its type, as SGLang sends it', () => {
    expect(kindOf({ type: 'length', length: 12 })).toBe('length');
    expect(kindOf({ type: 'abort', message: 'out of memory' })).toBe('broken');
  });

  it('is named in the log as it came, unless it is no word', () => {
    expect(readFinishReason('End_Of_Fun')?.word).toBe('End_Of_Fun');
    expect(readFinishReason('the guest said: my name is Mina')?.word).toBe('unprintable');
  });
});
