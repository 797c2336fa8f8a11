import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';
import { ChatSession } from './chat-session.entity.js';
import { Reply } from './reply.entity.js';

export const MessageSender = { User: 'user', Ai: 'ai' } as const;
export type MessageSender = (typeof MessageSender)[keyof typeof MessageSender];

const MessageSchema = defineEntity({
  name: 'Message',
  tableName: 'messages',
  properties: {
    id: idColumn(),
    chatSession: () => p.manyToOne(ChatSession).ref().deleteRule('cascade'),
    sequence: p.integer(),
    sender: p.enum(Object.values(MessageSender)),
    content: p.text(),
    /** Of a user message: the reply that answers it. Of an AI message: the reply that wrote it. */
    reply: () => p.manyToOne(Reply).ref().nullable().deleteRule('no action').index(),
    /** The sender's own id of it, for telling a repetition. */
    clientMessageId: p.string().length(255).nullable(),
    /** Of an AI message: the reply that was made instead of its own. */
    supersededBy: () =>
      p.manyToOne(Reply).ref().nullable().deleteRule('no action').fieldName('superseded_by'),
    createdAt: createdAtColumn(),
  },
  indexes: [
    {
      name: 'messages_superseded_by_index',
      properties: ['supersededBy'],
      where: 'superseded_by is not null',
    },
  ],
  uniques: [
    { name: 'messages_sequence_unique', properties: ['chatSession', 'sequence'] }, // also a session's list
    {
      name: 'messages_client_message_id_unique',
      properties: ['chatSession', 'clientMessageId'],
      where: 'client_message_id is not null',
    },
    { name: 'messages_one_ai_message_per_reply', properties: ['reply'], where: "sender = 'ai'" },
  ],
});

/** What a guest (or the owner) wrote, or what the worker wrote as the chatbot. */
export class Message extends MessageSchema.class {}
MessageSchema.setClass(Message);
export { MessageSchema };

declare module '../database/tables.js' {
  interface Tables {
    messages: TableOf<typeof MessageSchema>;
  }
}
