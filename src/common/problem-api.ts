import { applyDecorators } from '@nestjs/common';
import { ApiExtraModels, ApiResponse, getSchemaPath } from '@nestjs/swagger';
import { ProblemDto } from './problem.filter.js';

const DESCRIPTIONS: Record<number, string> = {
  400: 'The body, a parameter or a cursor is not valid.',
  401: 'No credential, or not a good one of the right kind.',
  404: 'There is no such thing, or it is not yours.',
  409: 'The state of the resource does not allow it.',
  413: 'The body is too large.',
  415: 'The body is not application/json.',
  422: 'The idempotency key was used with another body.',
  503: 'The service is not available for the moment.',
};

/** Documents the problems that a route may answer with. */
export function ApiProblems(...statuses: number[]) {
  return applyDecorators(
    ApiExtraModels(ProblemDto),
    ...[...statuses, 503].map((status) =>
      ApiResponse({
        status,
        description: DESCRIPTIONS[status] ?? 'An error.',
        content: { 'application/problem+json': { schema: { $ref: getSchemaPath(ProblemDto) } } },
      }),
    ),
  );
}

/** The problems of any route that takes a body. */
export const BODY_PROBLEMS = [400, 413, 415];
