import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn, timeColumn } from '../database/columns.js';
import type { StoredAppearance } from './appearance.js';
import type { OwnLimits } from '../limits/limit-names.js';
import type { TableOf } from '../database/tables.js';
import { uncountTrigger } from './uncount-trigger.js';

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
    /** Pages that guests may use it on, by their origins; none: any. */
    allowedOrigins: p.array().default([]),
    /** Its own limits, by name; null: those of the settings. */
    limits: p.json<OwnLimits>().nullable(),
    /** Most tokens a UTC day, in and out; null: the operator's default. */
    dailyTokenBudget: p.integer().nullable(),
    /** What it says where that is spent; null: a sentence of ours. */
    unavailableMessage: p.text().nullable(),
    /** Sessions without activity for so long are erased; null: what the operator says. */
    retentionDays: p.integer().nullable(),
    /** How the page of its guests looks; what it does not name is the page's own. */
    appearance: p.json<StoredAppearance>().defaultRaw(`'{}'::jsonb`),
    /** Whether only people whom its owner has vouched for may open sessions. */
    requiresIdentity: p.boolean().default(false),
    /** What the owner's server signs the tokens of people with; null: none was asked for. */
    identitySecret: p.string().length(64).nullable(),
    /** The one before, good until then. */
    previousIdentitySecret: p.string().length(64).nullable(),
    previousIdentitySecretUntil: timeColumn().nullable(),
    /** How many sessions it has, right within seconds. */
    sessionCount: p.integer().default(0),
    /** What the instructions take of a prompt, in tokens: an upper bound until a worker has counted; null: not known yet. */
    instructionsTokens: p.integer().nullable(),
    /** Whether a worker has counted the instructions as they are now. */
    isCounted: p.boolean().default(false),
    createdAt: createdAtColumn(),
    updatedAt: timeColumn().defaultRaw('clock_timestamp()').returning(),
  },
  indexes: [
    { name: 'chatbots_owner_newest_index', properties: ['clerkUserId', 'createdAt', 'id'] }, // an owner's list, read backwards
    { name: 'chatbots_retention_index', properties: ['id'], where: 'retention_days is not null' },
    {
      name: 'chatbots_uncounted_index',
      properties: ['id'],
      where: 'instructions is not null and not is_counted',
    },
  ],
  triggers: [uncountTrigger('instructions', 'instructions_tokens')],
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
