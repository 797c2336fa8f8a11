import { APIConnectionTimeoutError, APIError } from 'openai';
import { LlmError, LlmErrorCode, type ProviderAnswer } from './llm-client.js';

/**
 * The one place that knows providers' errors. It decides two things about a failed call: what the guest is
 * told, and whether the same call may succeed later. A wrong "yes" costs a few calls, a wrong "no" the reply.
 */

/** Codes and types of a 429 or an error event that no waiting cures: somebody has to pay or to raise a limit. */
const BILLING_CODES: ReadonlySet<string> = new Set([
  'insufficient_quota',
  'billing_hard_limit_reached',
  'billing_not_active',
  'credit_balance_exhausted',
  'insufficient_balance',
  'insufficient_credits',
]);
const SPEND_LIMIT = /_spend_limit_(exceeded|reached)$/;

/** Codes and types of an error event after the headers were sent, which has no status of its own. */
const STATUS_BY_CODE: ReadonlyMap<string, number> = new Map([
  ['rate_limit_exceeded', 429],
  ['rate_limit_error', 429],
  ['slow_down', 429],
  ['invalid_request_error', 400],
  ['invalid_api_key', 401],
  ['authentication_error', 401],
  ['permission_error', 403],
  ['model_not_found', 404],
]);

const CONTEXT_CODES: ReadonlySet<string> = new Set([
  'context_length_exceeded', // OpenAI, Azure, Groq, TensorRT-LLM
  'exceed_context_size_error', // llama.cpp
  'string_above_max_length', // OpenAI, for a single message
]);

/** The same said in prose, by servers that have no code for it. */
const CONTEXT_MESSAGES: readonly RegExp[] = [
  /maximum context length/i, // OpenAI, vLLM, Mistral, SGLang
  /maximum model length/i, // vLLM: "The decoder prompt (length 9) is longer than the maximum model length of 8"
  /context (length|window|size) (is only|of only|exceeded)/i, // vLLM since 0.16, LM Studio
  /(exceed|longer|greater|larger)\w*.{0,40}context (length|window|size)/i, // llama.cpp, Ollama, SGLang
  /exceeded max context length/i, // Ollama
  /(prompt|input) is too long/i, // Anthropic, Bedrock
  /input token count.{0,40}exceeds/i, // Gemini
  /`inputs` (tokens|must have less than)/i, // TGI
  /reduce the length of the (messages|input|prompt)/i, // OpenAI, Groq, vLLM
  /request too large for/i, // OpenAI: one request beyond the tokens a minute, which no waiting makes smaller
];

const TIMEOUT_CAUSES: ReadonlySet<string> = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
]);

/** What a provider wrote may be a whole page, and goes into a log line. */
const MAX_MESSAGE_CHARS = 500;

/** Our own watchdogs' error: `awaited` did not happen within the time. */
export function timeoutError(awaited: string, timeoutMs: number): LlmError {
  return new LlmError(LlmErrorCode.ProviderTimeout, `No ${awaited} within ${timeoutMs} ms`, {
    isRetryable: true,
  });
}

/** A response beyond any honest size; a second one would be no smaller. */
export function tooLargeError(what: string, limitBytes: number): LlmError {
  return new LlmError(LlmErrorCode.ProviderRejected, `${what} of more than ${limitBytes} bytes`, {
    isRetryable: false,
  });
}

/** A successful response that is no event stream: a proxy's login page, a wrong base URL. */
export function notAStreamError(contentType: string): LlmError {
  return new LlmError(
    LlmErrorCode.ProviderUnavailable,
    `Answered with ${contentType.slice(0, MAX_MESSAGE_CHARS)} instead of an event stream`,
    { isRetryable: true },
  );
}

/**
 * Classifies anything that the OpenAI client or the fetch below it throws.
 *
 * @param nowMs the time a `Retry-After` date is measured from
 */
export function toLlmError(error: unknown, nowMs: number = Date.now()): LlmError {
  const causes = causesOf(error);
  const classified = causes.find((cause) => cause instanceof LlmError);
  if (classified) return classified;
  if (error instanceof APIError) {
    const status = statusOf(error);
    if (status !== undefined) return fromStatus(status, error, nowMs);
  }
  const isTimeout = causes.some(
    (cause) => cause instanceof APIConnectionTimeoutError || TIMEOUT_CAUSES.has(codeOf(cause)),
  );
  // What remains is a connection refused, reset or cut, an unknown host, a certificate, broken JSON, or an
  // error event without a known code: all of it may pass.
  const code = isTimeout ? LlmErrorCode.ProviderTimeout : LlmErrorCode.ProviderUnavailable;
  return new LlmError(code, messageOf(causes), { isRetryable: true, answer: answerOf(error), cause: error });
}

/** Words of a program: anything else could be a text. */
const TOKEN = /^[\w.:[\]-]{1,100}$/;

function answerOf(error: unknown): ProviderAnswer | undefined {
  if (!(error instanceof APIError)) return undefined;
  const token = (value: unknown): string | undefined =>
    (typeof value === 'string' || typeof value === 'number') && TOKEN.test(String(value))
      ? String(value)
      : undefined;
  return {
    status: error.status,
    code: token(error.code),
    type: token(error.type),
    param: token(error.param),
    requestId: token(error.requestID),
  };
}

function fromStatus(status: number, error: APIError, nowMs: number): LlmError {
  const message = messageOf([error]);
  const answer = answerOf(error);
  const permanent = (code: LlmErrorCode) =>
    new LlmError(code, message, { isRetryable: false, answer, cause: error });
  const passing = (code: LlmErrorCode) =>
    new LlmError(code, message, {
      isRetryable: true,
      retryAfterMs: retryAfterMs(error.headers, nowMs),
      answer,
      cause: error,
    });

  // Before the status: llama.cpp says it with 400 or 500, OpenAI with 400 or 429.
  if (status === 413 || isContextTooLong(error)) return permanent(LlmErrorCode.ContextTooLong);
  if (status === 429) {
    return isBilling(error)
      ? permanent(LlmErrorCode.ProviderRejected)
      : passing(LlmErrorCode.ProviderRateLimited);
  }
  if (status === 408) return passing(LlmErrorCode.ProviderTimeout);
  if (status === 409 || status >= 500) return passing(LlmErrorCode.ProviderUnavailable);
  // A redirect too: the key is for the configured address only.
  return permanent(LlmErrorCode.ProviderRejected);
}

/** The HTTP status; for an error event within a stream, the status that its code stands for. */
function statusOf(error: APIError): number | undefined {
  if (error.status !== undefined) return error.status;
  if (isBilling(error)) return 429;
  if (isContextTooLong(error)) return 400;
  // vLLM, llama.cpp and OpenRouter put the HTTP status into `code`, as a number.
  for (const code of codesOf(error)) {
    const status = /^[45]\d\d$/.test(code) ? Number(code) : STATUS_BY_CODE.get(code);
    if (status !== undefined) return status;
  }
  return undefined;
}

const isBilling = (error: APIError): boolean =>
  codesOf(error).some((code) => BILLING_CODES.has(code) || SPEND_LIMIT.test(code));

const isContextTooLong = (error: APIError): boolean =>
  codesOf(error).some((code) => CONTEXT_CODES.has(code)) ||
  CONTEXT_MESSAGES.some((pattern) => pattern.test(error.message));

/** Typed as strings by the library, but they are whatever the server sent. */
const codesOf = (error: APIError): string[] =>
  [error.code, error.type].filter((code: unknown) => code !== null && code !== undefined).map(String);

/**
 * How long the provider asks to be left alone, in milliseconds: `retry-after-ms`, or `retry-after` as seconds
 * or as an HTTP date. Anything else is ignored. The wait is not bounded here: the reply's deadline does that.
 */
function retryAfterMs(headers: Headers | undefined, nowMs: number): number | undefined {
  const ms = nonNegative(headers?.get('retry-after-ms'));
  if (ms !== undefined) return Math.ceil(ms);
  const retryAfter = headers?.get('retry-after')?.trim() ?? '';
  const seconds = nonNegative(retryAfter);
  if (seconds !== undefined) return Math.ceil(seconds * 1000);
  // Date.parse alone takes "try in 5 minutes" for a day in May.
  const date = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(retryAfter)
    ? Date.parse(retryAfter)
    : NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

const nonNegative = (value: string | null | undefined): number | undefined =>
  value && /^\s*\d{1,15}(\.\d+)?\s*$/.test(value) ? Number(value) : undefined;

/** The error and what caused it, outermost first. */
function causesOf(error: unknown): unknown[] {
  const causes: unknown[] = [];
  for (let cause = error; cause !== undefined && causes.length < 10;) {
    causes.push(cause);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return causes;
}

const codeOf = (cause: unknown): string =>
  cause instanceof Error && 'code' in cause ? String(cause.code) : '';

/** A parser quotes what it could not read, which is a piece of the answer. */
const wordsOf = (cause: unknown): string => {
  if (cause instanceof SyntaxError) return 'broken JSON';
  return cause instanceof Error ? cause.message || codeOf(cause) : String(cause);
};

/** "Connection error." says nothing without its cause, "connect ECONNREFUSED 10.0.0.1:80". */
const messageOf = (causes: readonly unknown[]): string =>
  causes
    .map(wordsOf)
    .filter((message) => message !== '')
    .join(': ')
    .slice(0, MAX_MESSAGE_CHARS)
    .toWellFormed();
