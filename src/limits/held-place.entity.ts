import { defineEntity, p } from '@mikro-orm/core';
import { timeColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';

const HeldPlaceSchema = defineEntity({
  name: 'HeldPlace',
  tableName: 'held_places',
  properties: {
    /** The limit, and what it is counted by. */
    key: p.string().length(512).primary(),
    holder: p.uuid().primary(),
    /** Free from then on, unless its process keeps it. */
    until: timeColumn(),
  },
  indexes: [{ name: 'held_places_holder_index', properties: ['holder'] }],
});

/** A place of a limit on what goes on at the same time. */
export class HeldPlace extends HeldPlaceSchema.class {}
HeldPlaceSchema.setClass(HeldPlace);
export { HeldPlaceSchema };

declare module '../database/tables.js' {
  interface Tables {
    held_places: TableOf<typeof HeldPlaceSchema>;
  }
}
