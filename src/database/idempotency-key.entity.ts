import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn } from './columns.js';

const IdempotencyKeySchema = defineEntity({
  name: 'IdempotencyKey',
  tableName: 'idempotency_keys',
  properties: {
    /** SHA-256 of caller, route and key, hex. */
    id: p.string().length(64).primary(),
    /** SHA-256 of the body, hex: the same key with another body is a mistake of the client. */
    bodyHash: p.string().length(64),
    /** The ids that the first request made. */
    result: p.json<Record<string, string>>(),
    createdAt: createdAtColumn().index(),
  },
});

/** A request that succeeded, so that its repetition answers with the same ids. Kept for a day. */
export class IdempotencyKey extends IdempotencyKeySchema.class {}
IdempotencyKeySchema.setClass(IdempotencyKey);
export { IdempotencyKeySchema };
