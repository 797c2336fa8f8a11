import { defineEntity, p } from '@mikro-orm/core';
import { Chatbot } from '../chatbots/chatbot.entity.js';
import type { TableOf } from '../database/tables.js';

const UsageDaySchema = defineEntity({
  name: 'UsageDay',
  tableName: 'usage_days',
  properties: {
    chatbot: () => p.manyToOne(Chatbot).ref().primary().deleteRule('cascade'),
    /** Of UTC. */
    day: p.date().primary(),
    /** The model that was asked; empty: none was, as of messages. */
    model: p.string().length(255).primary(),
    messages: p.integer().default(0),
    completed: p.integer().default(0),
    failed: p.integer().default(0),
    cancelled: p.integer().default(0),
    /** Replies that said that the budget is spent. */
    budget: p.integer().default(0),
    inputTokens: p.bigint('number').default(0),
    outputTokens: p.bigint('number').default(0),
  },
});

/** What a chatbot used on one day with one model; it stays when the conversations go. */
export class UsageDay extends UsageDaySchema.class {}
UsageDaySchema.setClass(UsageDay);
export { UsageDaySchema };

declare module '../database/tables.js' {
  interface Tables {
    usage_days: TableOf<typeof UsageDaySchema>;
  }
}
