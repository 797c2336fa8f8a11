import { describe, expect, it } from '@jest/globals';
import { APIConnectionError, APIConnectionTimeoutError, APIError } from 'openai';
import { LlmError, LlmErrorCode } from '../../src/llm/llm-client.js';
import { notAStreamError, timeoutError, tooLargeError, toLlmError } from '../../src/llm/llm-errors.js';

const { ProviderTimeout, ProviderUnavailable, ProviderRateLimited, ProviderRejected, ContextTooLong } =
  LlmErrorCode;
const NOW_MS = Date.parse('2026-03-01T12:00:00Z');

/** As the client makes it of a response with that status. */
const response = (status: number, error: object = {}, headers: Record<string, string> = {}) =>
  APIError.generate(status, { error: { message: 'It failed.', ...error } }, undefined, new Headers(headers));

/** As the client makes it of `data: {"error": ...}` within a stream. */
const event = (error: unknown) => new APIError(undefined, error as object, undefined, new Headers());

const withCode = (code: string, message = code) => Object.assign(new Error(message), { code });

/** As fetch fails, wrapped by the client. */
const connection = (code: string) =>
  new APIConnectionError({ cause: new TypeError('fetch failed', { cause: withCode(code) }) });

const classify = (error: unknown) => {
  const { code, options } = toLlmError(error, NOW_MS);
  return [code, options.isRetryable];
};

describe('A connection error', () => {
  it.each([
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EHOSTUNREACH',
    'UND_ERR_SOCKET',
    'CERT_HAS_EXPIRED',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'ERR_SSL_WRONG_VERSION_NUMBER',
  ])('%s means unavailable and may pass', (code) => {
    expect(classify(connection(code))).toEqual([ProviderUnavailable, true]);
    expect(classify(new TypeError('terminated', { cause: withCode(code) }))).toEqual([
      ProviderUnavailable,
      true,
    ]);
  });

  it.each(['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ETIMEDOUT'])(
    '%s is a timeout and may pass',
    (code) => {
      expect(classify(connection(code))).toEqual([ProviderTimeout, true]);
    },
  );

  it('of the client itself that timed out is a timeout', () => {
    expect(classify(new APIConnectionTimeoutError())).toEqual([ProviderTimeout, true]);
  });

  it('names its cause in the log', () => {
    expect(toLlmError(connection('ECONNREFUSED')).message).toBe(
      'Connection error.: fetch failed: ECONNREFUSED',
    );
  });
});

describe('A status', () => {
  it.each([
    [307, ProviderRejected, false],
    [400, ProviderRejected, false],
    [401, ProviderRejected, false],
    [402, ProviderRejected, false],
    [403, ProviderRejected, false],
    [404, ProviderRejected, false],
    [405, ProviderRejected, false],
    [408, ProviderTimeout, true],
    [409, ProviderUnavailable, true],
    [413, ContextTooLong, false],
    [415, ProviderRejected, false],
    [422, ProviderRejected, false],
    [429, ProviderRateLimited, true],
    [500, ProviderUnavailable, true],
    [501, ProviderUnavailable, true],
    [502, ProviderUnavailable, true],
    [503, ProviderUnavailable, true],
    [504, ProviderUnavailable, true],
    [529, ProviderUnavailable, true],
  ])('of %d means %s, retryable: %s', (status, code, isRetryable) => {
    expect(classify(response(status))).toEqual([code, isRetryable]);
  });

  it('with a body that is no JSON is classified all the same', () => {
    const error = APIError.generate(502, undefined, '<html>Bad gateway</html>', new Headers());

    expect(classify(error)).toEqual([ProviderUnavailable, true]);
  });
});

describe('A 429', () => {
  it.each(['rate_limit_exceeded', 'slow_down', 'tokens', 'RESOURCE_EXHAUSTED', undefined])(
    'for pacing may pass: %s',
    (code) => {
      expect(classify(response(429, { code }))).toEqual([ProviderRateLimited, true]);
    },
  );

  it.each([
    'insufficient_quota',
    'billing_hard_limit_reached',
    'billing_not_active',
    'credit_balance_exhausted',
    'insufficient_credits',
    'project_spend_limit_exceeded',
    'organization_spend_limit_exceeded',
  ])('for money does not pass, in the code or in the type: %s', (code) => {
    expect(classify(response(429, { code }, { 'retry-after': '1' }))).toEqual([ProviderRejected, false]);
    expect(classify(response(429, { type: code }))).toEqual([ProviderRejected, false]);
  });

  it('for a single request beyond the tokens a minute is a context too long', () => {
    const message =
      'Request too large for gpt-5 in organization org-x on tokens per min (TPM): Limit 30000, Requested 40000.';

    expect(classify(response(429, { message, code: 'rate_limit_exceeded' }))).toEqual([
      ContextTooLong,
      false,
    ]);
  });
});

describe('The wait that a provider asks for', () => {
  it.each([
    [{ 'retry-after': '2' }, 2_000],
    [{ 'retry-after': '0' }, 0],
    [{ 'retry-after': '1.5' }, 1_500],
    [{ 'retry-after': ' 120 ' }, 120_000],
    [{ 'retry-after': '86400' }, 86_400_000],
    [{ 'retry-after-ms': '250' }, 250],
    [{ 'retry-after-ms': '0.4' }, 1],
    [{ 'retry-after-ms': '250', 'retry-after': '9' }, 250],
    [{ 'retry-after-ms': 'soon', 'retry-after': '9' }, 9_000],
    [{ 'retry-after': 'Sun, 01 Mar 2026 12:01:00 GMT' }, 60_000],
    [{ 'retry-after': 'Sun, 01 Mar 2026 11:00:00 GMT' }, 0],
  ])('is read from %j', (headers: Record<string, string>, expected) => {
    for (const status of [408, 409, 429, 500, 503, 529]) {
      expect(toLlmError(response(status, {}, headers), NOW_MS).options.retryAfterMs).toBe(expected);
    }
  });

  it.each([
    '',
    'soon',
    '-1',
    '1e400',
    '0x10',
    'NaN',
    'Infinity',
    'try in 5 minutes',
    'Sun, 99 Mar 2026 99:00:00 GMT',
  ])('is not known from "%s"', (retryAfter) => {
    const { options } = toLlmError(response(429, {}, { 'retry-after': retryAfter }), NOW_MS);

    expect([options.isRetryable, options.retryAfterMs]).toEqual([true, undefined]);
  });

  it('does not exist for what is not retryable', () => {
    expect(toLlmError(response(401, {}, { 'retry-after': '5' })).options.retryAfterMs).toBeUndefined();
  });
});

describe('A context that is too long', () => {
  it.each(['context_length_exceeded', 'string_above_max_length'])('is known by the code %s', (code) => {
    expect(classify(response(400, { code }))).toEqual([ContextTooLong, false]);
  });

  it('is known by the type of llama.cpp, whose status was 500 once', () => {
    expect(classify(response(500, { type: 'exceed_context_size_error' }))).toEqual([ContextTooLong, false]);
  });

  it.each([
    [
      'OpenAI',
      "This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.",
    ],
    ['vLLM', 'The decoder prompt (length 900) is longer than the maximum model length of 512.'],
    [
      'vLLM 0.16',
      "You passed 1015 input tokens and requested 10 output tokens. However, the model's context length is only 1024 tokens.",
    ],
    ['SGLang', "The input (5000 tokens) is longer than the model's context length (4096 tokens)."],
    [
      'llama.cpp',
      'request (33056 tokens) exceeds the available context size (32768 tokens), try increasing it',
    ],
    ['llama.cpp before', 'the request exceeds the available context size. try increasing the context size'],
    ['Ollama', 'the input length exceeds the context length'],
    ['Ollama, of a prompt', 'prompt too long; exceeded max context length by 12 tokens'],
    ['Mistral', 'Prompt contains 40000 tokens, too large for model with 32768 maximum context length'],
    ['LM Studio', 'The number of tokens to keep from the initial prompt is greater than the context length.'],
    ['Anthropic', 'prompt is too long: 213000 tokens > 200000 maximum'],
    ['Bedrock', 'Input is too long for requested model.'],
    ['Gemini', 'The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).'],
    ['TGI', 'Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.'],
    ['Groq', 'Please reduce the length of the messages or completion.'],
  ])('is known by what %s says', (_, message) => {
    expect(classify(response(400, { message }))).toEqual([ContextTooLong, false]);
  });

  it.each([
    "Unsupported value: 'temperature'",
    'The model does not support images in its context',
    'max_tokens is required',
  ])('is not "%s"', (message) => {
    expect(classify(response(400, { message }))).toEqual([ProviderRejected, false]);
  });
});

describe('An error event within a stream', () => {
  it.each([
    [{ message: 'Oops', type: 'server_error' }, ProviderUnavailable, true],
    [{ message: 'Overloaded', type: 'overloaded_error' }, ProviderUnavailable, true],
    ['only a string', ProviderUnavailable, true],
    [{}, ProviderUnavailable, true],
    [{ code: 'rate_limit_exceeded' }, ProviderRateLimited, true],
    [{ code: 429 }, ProviderRateLimited, true],
    [{ code: 502, message: 'Provider returned error' }, ProviderUnavailable, true],
    [{ code: 400, type: 'BadRequestError' }, ProviderRejected, false],
    [{ code: 'insufficient_quota' }, ProviderRejected, false],
    [{ type: 'invalid_request_error', code: null }, ProviderRejected, false],
    [{ code: 'context_length_exceeded', type: 'invalid_request_error' }, ContextTooLong, false],
    [{ code: 400, type: 'exceed_context_size_error' }, ContextTooLong, false],
  ])('of %j means %s, retryable: %s', (error, code, isRetryable) => {
    expect(classify(event(error))).toEqual([code, isRetryable]);
  });
});

describe('Anything else', () => {
  it.each([
    new SyntaxError('malformed JSON'),
    new TypeError('terminated'),
    'a string',
    null,
    undefined,
    { odd: true },
  ])('that is thrown may pass: %p', (error) => {
    expect(classify(error)).toEqual([ProviderUnavailable, true]);
  });

  it('that was classified below the client stays what it is', () => {
    const inner = tooLargeError('An event', 10);

    expect(toLlmError(inner)).toBe(inner);
    expect(toLlmError(new APIConnectionError({ cause: inner }))).toBe(inner);
  });

  it('survives causes that go round in a circle', () => {
    const error = new Error('round');
    error.cause = error;

    expect(classify(error)).toEqual([ProviderUnavailable, true]);
  });

  it('keeps its cause and a message of a bounded length, for the log', () => {
    const error = response(500, { message: '😀'.repeat(10_000) });
    const { message, options } = toLlmError(error);

    expect(options.cause).toBe(error);
    expect(message.length).toBeLessThanOrEqual(500);
    expect(message.isWellFormed()).toBe(true);
  });
});

describe('Our own limits', () => {
  it.each<[string, LlmError, LlmErrorCode, boolean]>([
    ['a watchdog', timeoutError('first token', 100), ProviderTimeout, true],
    ['a bound on bytes', tooLargeError('A response', 100), ProviderRejected, false],
    ['a page instead of a stream', notAStreamError('text/html'), ProviderUnavailable, true],
  ])('%s', (_, error, code, isRetryable) => {
    expect([error.code, error.options.isRetryable]).toEqual([code, isRetryable]);
  });
});
