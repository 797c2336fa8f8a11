import { describe, expect, it } from '@jest/globals';
import { LlmError, LlmErrorCode } from '../../src/llm/llm-client.js';
import { quotes, withoutQuotes } from '../../src/worker/quotes.js';
import { cpuMsOf } from '../support/cpu-time.js';

const QUESTION = 'Hi, my name is Zoë Weiß — call me at +49 30 1234567 "after\nsix"!';

describe('a provider’s words', () => {
  it.each([
    ['as it is', `Invalid request: ${QUESTION}`],
    ['as JSON', `Invalid value in {"content":${JSON.stringify(QUESTION)}}`],
    ['as JSON in ASCII', 'Invalid: "my name is Zo\\u00eb Wei\\u00df"'],
    ['in another case and with other blanks', 'INVALID: MY   NAME\tIS ZOË'],
    ['cut', `...ll me at +49 30 1234...`],
  ])('quote a text %s', (_how, message) => {
    expect(quotes(message, ['Hello', QUESTION])).toBe(true);
  });

  it('quote a short text only as a whole', () => {
    expect(quotes("Refused: 'Zoë W.'", ['Zoë W'])).toBe(true);
    expect(quotes('Your account is not active', ['Count', 'Act', 'not'])).toBe(false);
  });

  it.each([
    'Incorrect API key provided: sk-proj-****. You can find your API key at https://example.com.',
    'The model `gpt-9` does not exist or you do not have access to it.',
    'You exceeded your current quota, please check your plan and billing details.',
    "Unsupported parameter: 'stream_options' is not supported with this model.",
  ])('are their own: %s', (message) => {
    expect(quotes(message, [QUESTION, 'What do you know about the model T?', 'Bakery', ''])).toBe(false);
  });

  it('are compared in a bounded time, and not kept where that does not suffice', async () => {
    const computedMs = await cpuMsOf(() =>
      expect(quotes('x'.repeat(500), ['word '.repeat(79_999)])).toBe(false),
    );
    expect(computedMs).toBeLessThan(1_000);
    expect(quotes('No.', ['word '.repeat(80_001)])).toBe(true);
  });

  it('reach the log without what they quote, and with what is made for programs', () => {
    const answer = { status: 400, code: 'invalid_value', requestId: 'req_1' };
    const cause = new Error(QUESTION);
    const error = new LlmError(LlmErrorCode.ProviderRejected, `Invalid: ${QUESTION}`, {
      isRetryable: false,
      answer,
      cause,
    });

    const cleaned = withoutQuotes(error, [QUESTION]) as LlmError;

    expect(cleaned.message).not.toContain('Zoë');
    expect(cleaned.cause).toBeUndefined();
    expect(cleaned).toMatchObject({ code: 'provider_rejected', options: { isRetryable: false, answer } });
    expect((withoutQuotes(error, ['Something else']) as LlmError).message).toBe(error.message);
  });
});
