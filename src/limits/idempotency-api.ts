import { applyDecorators } from '@nestjs/common';
import { ApiHeader } from '@nestjs/swagger';
import { IDEMPOTENCY_HEADER, IDEMPOTENCY_LIFETIME_HOURS, REPLAYED_HEADER } from './idempotency.js';

/** Documents a route that takes an idempotency key. */
export function ApiIdempotent() {
  return applyDecorators(
    ApiHeader({
      name: IDEMPOTENCY_HEADER,
      required: false,
      description: `1 to 255 visible ASCII characters. The same key and body again, within ${IDEMPOTENCY_LIFETIME_HOURS} hours, answers with what the first request made, and with ${REPLAYED_HEADER}: true.`,
      schema: { type: 'string', minLength: 1, maxLength: 257 },
    }),
  );
}
