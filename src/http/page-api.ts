import { applyDecorators, type Type } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, ApiQuery, getSchemaPath, type HeadersObject } from '@nestjs/swagger';
import type { ProblemCode } from '../runtime/app-error.js';
import { DEFAULT_LIMIT, MAX_LIMIT } from './page.js';

/** What a list may answer with because of its parameters. */
export const PAGE_PROBLEMS: ProblemCode[] = ['invalid_request', 'invalid_cursor'];

/**
 * Documents a list: its parameters and its answer.
 *
 * @param headers of the answer
 */
export function ApiPage(item: Type, description: string, headers: HeadersObject = {}) {
  return applyDecorators(
    ApiExtraModels(item),
    ApiQuery({
      name: 'limit',
      required: false,
      description: 'The most items to answer with.',
      schema: { type: 'integer', minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT },
    }),
    ApiQuery({
      name: 'cursor',
      required: false,
      description: 'The `nextCursor` of the page before. It belongs to this list and order.',
      schema: { type: 'string' },
    }),
    ApiOkResponse({
      description,
      headers,
      schema: {
        type: 'object',
        required: ['data', 'nextCursor'],
        properties: {
          data: { type: 'array', items: { $ref: getSchemaPath(item) } },
          nextCursor: { type: 'string', nullable: true, description: 'Null on the last page.' },
        },
      },
    }),
  );
}
