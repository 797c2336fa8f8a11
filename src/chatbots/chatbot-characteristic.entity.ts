import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';
import { Chatbot } from './chatbot.entity.js';
import { uncountTrigger } from './uncount-trigger.js';

const ChatbotCharacteristicSchema = defineEntity({
  name: 'ChatbotCharacteristic',
  tableName: 'chatbot_characteristics',
  properties: {
    id: idColumn(),
    chatbot: () => p.manyToOne(Chatbot).ref().deleteRule('cascade'),
    content: p.text(),
    /** What it takes of a prompt, in tokens: an upper bound until a worker has counted; null: not known yet. */
    tokens: p.integer().nullable(),
    /** Whether a worker has counted the content as it is now. */
    isCounted: p.boolean().default(false),
    createdAt: createdAtColumn(),
  },
  indexes: [
    { name: 'chatbot_characteristics_oldest_index', properties: ['chatbot', 'createdAt', 'id'] }, // a chatbot's list
    { name: 'chatbot_characteristics_uncounted_index', properties: ['chatbot'], where: 'not is_counted' },
  ],
  triggers: [uncountTrigger('content', 'tokens')],
});

/** One sentence that a chatbot's prompt holds: a fact, a rule, a manner. */
export class ChatbotCharacteristic extends ChatbotCharacteristicSchema.class {}
ChatbotCharacteristicSchema.setClass(ChatbotCharacteristic);
export { ChatbotCharacteristicSchema };

declare module '../database/tables.js' {
  interface Tables {
    chatbot_characteristics: TableOf<typeof ChatbotCharacteristicSchema>;
  }
}
