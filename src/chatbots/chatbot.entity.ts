import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn, timeColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';

const ChatbotSchema = defineEntity({
  name: 'Chatbot',
  tableName: 'chatbots',
  properties: {
    id: idColumn(),
    clerkUserId: p.string().length(255),
    name: p.string().length(255),
    greeting: p.text().nullable(),
    model: p.string().length(255).nullable(),
    /** The owner's own words in the system turn: tone, role, what to do when unsure. */
    instructions: p.text().nullable(),
    /** Off: nothing new is accepted; what was accepted is still answered. */
    isEnabled: p.boolean().default(true),
    /** What instructions and characteristics take of a prompt, in tokens, all of them; an upper bound until counted. */
    promptTokens: p.integer().default(0),
    /** Whether {@link promptTokens} is of the texts as they are now, counted exactly. */
    isCounted: p.boolean().default(false),
    createdAt: createdAtColumn(),
    updatedAt: timeColumn().defaultRaw('clock_timestamp()').returning(),
  },
  indexes: [
    { name: 'chatbots_owner_newest_index', properties: ['clerkUserId', 'createdAt', 'id'] }, // an owner's list, read backwards
  ],
});

/** An owner's chatbot: its name, what it says first, how it behaves, and which model speaks for it (null: the default). */
export class Chatbot extends ChatbotSchema.class {}
ChatbotSchema.setClass(Chatbot);
export { ChatbotSchema };

declare module '../database/tables.js' {
  interface Tables {
    chatbots: TableOf<typeof ChatbotSchema>;
  }
}
