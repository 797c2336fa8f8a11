import type { PartHealth } from './readiness.js';

/** What went wrong, as far as clients may know it. The codes are part of the contract: stable, and listed in OpenAPI. */
export const PROBLEMS = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  malformed_request: { status: 400, title: 'The request is not valid HTTP' },
  malformed_json: { status: 400, title: 'The body is not valid JSON' },
  invalid_cursor: { status: 400, title: 'The cursor does not belong to this list' },
  unauthorized: { status: 401, title: 'A valid credential is required' },
  origin_not_allowed: { status: 403, title: 'Pages of this origin may not do this' },
  chatbot_disabled: { status: 403, title: 'The chatbot is switched off' },
  not_found: { status: 404, title: 'There is no such thing' },
  request_timeout: { status: 408, title: 'The request took too long to arrive' },
  reply_not_retryable: { status: 409, title: 'The reply cannot be retried' },
  message_not_editable: { status: 409, title: 'A message cannot be changed' },
  idempotency_in_progress: { status: 409, title: 'The first request with this key is still running' },
  session_full: { status: 409, title: 'The session takes no more messages' },
  limit_reached: { status: 409, title: 'A limit of the resource is reached' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body must be application/json' },
  expectation_failed: { status: 417, title: 'The expectation cannot be met' },
  idempotency_key_reused: { status: 422, title: 'The idempotency key was used with another body' },
  rate_limited: { status: 429, title: 'Too many requests' },
  reply_full: { status: 429, title: 'The reply takes no more messages' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  service_unavailable: { status: 503, title: 'The service is not available for the moment' },
  internal_error: { status: 500, title: 'Something went wrong on our side' },
} as const;

export type ProblemCode = keyof typeof PROBLEMS;
export const PROBLEM_CODES = Object.keys(PROBLEMS) as ProblemCode[];

/** One thing that is wrong with a request. */
export interface FieldError {
  /** JSON pointer into the body, or the name of the parameter. */
  pointer: string;
  message: string;
}

/** Why a token was refused, and what it said of itself that was why: strangers' text, and never the token. */
export type RefusedToken = { reason: string } & Record<string, string>;

/** What `WWW-Authenticate` says of a bearer token, RFC 6750. */
export interface Challenge {
  error: 'invalid_request' | 'invalid_token';
  /** Without quotes and backslashes. */
  description: string;
}

/**
 * An error that a client is meant to see. Services throw it and know nothing of HTTP; the problem filter turns
 * it into an RFC 9457 document.
 */
export class AppError extends Error {
  constructor(
    readonly code: ProblemCode,
    /** One sentence for this occurrence. Never a secret, a stack, SQL or a path of the machine. */
    readonly detail: string,
    readonly options: {
      errors?: FieldError[];
      parts?: readonly PartHealth[];
      build?: { version: string; commit: string };
      cause?: unknown;
      retryAfterSeconds?: number;
      /** Which limit was reached, by its name in `Chatbot.limits`. */
      limit?: string;
      /** The scheme of the credential that is missing, where it is not a bearer token. */
      scheme?: 'Basic';
      /** Of a credential that was sent and is no good: what the challenge says of it. */
      challenge?: Challenge | undefined;
      /** Why the credential is no good, for the request's line in the log alone. */
      refusedToken?: RefusedToken | undefined;
    } = {},
  ) {
    super(detail, { cause: options.cause });
    this.name = 'AppError';
  }

  get status(): number {
    return PROBLEMS[this.code].status;
  }

  get title(): string {
    return PROBLEMS[this.code].title;
  }
}

/** Nothing new is accepted for a chatbot that its owner has switched off. */
export const chatbotDisabled = (): AppError =>
  new AppError('chatbot_disabled', 'The owner of this chatbot has switched it off.');

/** A thing that does not exist or is another owner's: no answer shows which of the two. */
export const notFound = (): AppError =>
  new AppError('not_found', 'There is no such thing, or it is not yours.');
