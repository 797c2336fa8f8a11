import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';

const OwnerErasureSchema = defineEntity({
  name: 'OwnerErasure',
  tableName: 'owner_erasures',
  properties: {
    clerkUserId: p.string().length(255).primary(),
    createdAt: createdAtColumn(),
  },
});

/** An owner who is gone, and whose chatbots still have to go, with all that hangs below them. */
export class OwnerErasure extends OwnerErasureSchema.class {}
OwnerErasureSchema.setClass(OwnerErasure);
export { OwnerErasureSchema };

declare module '../database/tables.js' {
  interface Tables {
    owner_erasures: TableOf<typeof OwnerErasureSchema>;
  }
}
