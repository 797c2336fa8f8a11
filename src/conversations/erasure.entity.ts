import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';

const ErasureSchema = defineEntity({
  name: 'Erasure',
  tableName: 'erasures',
  properties: {
    /** The deleted session. */
    sessionId: p.uuid().primary(),
    /** How many jobs were ever enqueued for each of its recent replies: their ids follow from it. */
    dispatchCounts: p.json<Record<string, number>>(),
    createdAt: createdAtColumn(),
  },
});

/**
 * A session whose rows are deleted, and whose traces in the queue and the event stream still have to go.
 * Written in the transaction of the deletion, so that a crash right after it leaves nothing behind.
 */
export class Erasure extends ErasureSchema.class {}
ErasureSchema.setClass(Erasure);
export { ErasureSchema };

declare module '../database/tables.js' {
  interface Tables {
    erasures: TableOf<typeof ErasureSchema>;
  }
}
