import { defineEntity, p } from '@mikro-orm/core';
import { timeColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';

const RateLimitSchema = defineEntity({
  name: 'RateLimit',
  tableName: 'rate_limits',
  properties: {
    /** The limit, and what it is counted by. */
    key: p.string().length(512).primary(),
    hits: p.integer(),
    /** When its window is over; another begins with the next hit. */
    endsAt: timeColumn(),
  },
});

/** What was used of a limit in the window that goes on. */
export class RateLimit extends RateLimitSchema.class {}
RateLimitSchema.setClass(RateLimit);
export { RateLimitSchema };

declare module '../database/tables.js' {
  interface Tables {
    rate_limits: TableOf<typeof RateLimitSchema>;
  }
}
