import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn } from '../database/columns.js';
import { Chatbot } from '../chatbots/chatbot.entity.js';
import type { TableOf } from '../database/tables.js';

const GuestSchema = defineEntity({
  name: 'Guest',
  tableName: 'guests',
  properties: {
    id: idColumn(),
    /** Whom it talked with; the database fills it in from the session where a version before did not. */
    chatbot: () => p.manyToOne(Chatbot).ref().nullable().deleteRule('cascade'),
    /** Its owner's id of the person, where the person is known. */
    externalId: p.string().length(255).nullable(),
    name: p.string().length(255).nullable(),
    email: p.string().length(255).nullable(),
    createdAt: createdAtColumn(),
  },
  indexes: [
    { name: 'guests_newest_index', properties: ['chatbot', 'createdAt', 'id'] }, // a chatbot's list, read backwards
    {
      name: 'guests_email_index',
      expression: `create index "guests_email_index" on "guests" (lower("email")) where "email" is not null`,
    },
  ],
  uniques: [
    {
      name: 'guests_one_person_per_chatbot',
      properties: ['chatbot', 'externalId'],
      where: 'external_id is not null',
    },
  ],
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
