import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';

const GuestSchema = defineEntity({
  name: 'Guest',
  tableName: 'guests',
  properties: {
    id: idColumn(),
    name: p.string().length(255).nullable(),
    email: p.string().length(255).nullable(),
    createdAt: createdAtColumn(),
  },
});

/** A person who gave a name or an e-mail address. Erasing it erases its sessions. */
export class Guest extends GuestSchema.class {}
GuestSchema.setClass(Guest);
export { GuestSchema };

declare module '../database/tables.js' {
  interface Tables {
    guests: TableOf<typeof GuestSchema>;
  }
}
