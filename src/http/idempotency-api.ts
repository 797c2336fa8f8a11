import { applyDecorators } from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import type { ProblemCode } from '../runtime/app-error.js';
import { IDEMPOTENCY_LIFETIME_HOURS } from '../database/idempotency.js';
import { IDEMPOTENCY_HEADER, REPLAYED_HEADER } from './idempotent.js';

/** What a key may bring about: also that the key itself is not usable. */
export const IDEMPOTENCY_PROBLEMS: ProblemCode[] = [
  'invalid_request',
  'idempotency_in_progress',
  'idempotency_key_reused',
];

/** For the responses of a route that takes an idempotency key. */
export const replayedHeader = {
  [REPLAYED_HEADER]: {
    description:
      'Present when this is the answer of an earlier request with the same key: the ids of then, the rows as they are now.',
    schema: { type: 'string' as const, enum: ['true'] },
  },
};

/** Documents a route that takes an idempotency key. */
export function ApiIdempotent() {
  return applyDecorators(
    ApiHeader({
      name: IDEMPOTENCY_HEADER,
      required: false,
      description: `A key of your own making, such as a UUID: 1 to 255 visible ASCII characters, bare or in double quotes. The same key and body again, within ${IDEMPOTENCY_LIFETIME_HOURS} hours, does nothing twice: it answers with what the first request made, and with \`${REPLAYED_HEADER}: true\`.`,
      schema: { type: 'string', minLength: 1, maxLength: 257, pattern: '^[\\x21-\\x7e]+$' },
    }),
  );
}
