import { applyDecorators } from '@nestjs/common';
import { ApiExtraModels, ApiResponse, getSchemaPath } from '@nestjs/swagger';
import { type ProblemCode, PROBLEMS } from '../runtime/app-error.js';
import { ERROR_CODE_HEADER } from './plain-errors.filter.js';
import { ProblemDto } from './problem.filter.js';

const DESCRIPTIONS: Record<number, string> = {
  400: 'The body, a parameter or a cursor is not valid.',
  401: 'No credential, or not a good one of the right kind.',
  403: 'The chatbot is switched off, or the page in the browser is of an origin that may not do this.',
  404: 'There is no such thing, or it is not yours.',
  409: 'The state of the resource does not allow it.',
  413: 'The body is too large.',
  415: 'The body is not application/json in UTF-8.',
  422: 'The idempotency key was used with another body.',
  429: 'Too much at once.',
  500: 'Something went wrong on our side; it is logged under the request id.',
  503: 'The service is not available for the moment. Try again.',
};

const HEADERS = {
  401: {
    'WWW-Authenticate': {
      description:
        'The scheme of the credential that is missing; with `error` and `error_description` of RFC 6750 where one was sent that is not good.',
      required: true,
      schema: { type: 'string' as const },
      example: 'Bearer realm="assistly"',
    },
  },
  409: {
    'Retry-After': {
      description: 'Seconds to wait; with `idempotency_in_progress`.',
      schema: { type: 'integer' as const, minimum: 1 },
      example: 1,
    },
  },
  429: {
    'Retry-After': {
      description: 'Seconds to wait.',
      required: true,
      schema: { type: 'integer' as const, minimum: 1 },
      example: 5,
    },
  },
  503: {
    'Retry-After': {
      description: 'Seconds to wait, where they are known.',
      schema: { type: 'integer' as const, minimum: 1 },
      example: 1,
    },
  },
};

/** What any route may answer with. */
const ALWAYS: ProblemCode[] = ['origin_not_allowed', 'internal_error', 'service_unavailable'];

/** What is refused before there is a route, whatever was meant to be asked: documented in the guide alone. */
export const CONNECTION_PROBLEMS: readonly ProblemCode[] = [
  'malformed_request',
  'request_timeout',
  'expectation_failed',
  'headers_too_large',
];

/** The problems of any route that changes something: it reads a body, be it only to refuse it, and is limited. */
export const BODY_PROBLEMS: ProblemCode[] = [
  'invalid_request',
  'malformed_json',
  'payload_too_large',
  'unsupported_media_type',
  'rate_limited',
];

/** Documents the problems that a route may answer with, by their codes. Their examples come with the document. */
export const ApiProblems = (...codes: ProblemCode[]) => apiProblems(codes, false);

/** The same for a route with a {@link PlainErrorsFilter}. */
export const ApiPlainProblems = (...codes: ProblemCode[]) => apiProblems(codes, true);

function apiProblems(codes: readonly ProblemCode[], arePlain: boolean) {
  const all = [...new Set([...codes, ...ALWAYS])];
  const statuses = [...new Set(all.map((code) => PROBLEMS[code].status))].sort((a, b) => a - b);
  return applyDecorators(
    ApiExtraModels(ProblemDto),
    ...statuses.map((status) => {
      const ofStatus = all.filter((code) => PROBLEMS[code].status === status);
      return ApiResponse({
        status,
        description: `${DESCRIPTIONS[status] ?? 'An error.'} Codes: ${ofStatus.map((code) => `\`${code}\``).join(', ')}.`,
        headers: {
          ...(status in HEADERS && HEADERS[status as keyof typeof HEADERS]),
          ...(arePlain && {
            [ERROR_CODE_HEADER]: {
              description: 'What went wrong, for programs.',
              required: true,
              schema: { type: 'string' as const, enum: ofStatus },
            },
          }),
        },
        content: arePlain
          ? { 'text/plain': { schema: { type: 'string' } } }
          : {
              'application/problem+json': {
                schema: {
                  allOf: [
                    { $ref: getSchemaPath(ProblemDto) },
                    { properties: { status: { enum: [status] }, code: { enum: ofStatus } } },
                  ],
                },
              },
            },
      });
    }),
  );
}
