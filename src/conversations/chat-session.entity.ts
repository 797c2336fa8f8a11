import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn, timeColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';
import { Chatbot } from '../chatbots/chatbot.entity.js';
import { Guest } from '../guests/guest.entity.js';

const ChatSessionSchema = defineEntity({
  name: 'ChatSession',
  tableName: 'chat_sessions',
  properties: {
    id: idColumn(),
    chatbot: () => p.manyToOne(Chatbot).ref().deleteRule('cascade'),
    guest: () => p.manyToOne(Guest).ref().nullable().deleteRule('cascade').index(),
    /** Of its first token, for versions that know of no other: the database makes a row of `session_tokens` of it. */
    tokenHash: p.string().length(64).unique(),
    /** Key that signs this session's event tokens, hex; goes with the row, and they with it. */
    eventTokenKey: p.string().length(64),
    /** The sequence of the newest message. Counted under this row's lock, so sequence order is commit order. */
    messageCount: p.integer().default(0),
    /** UTF-16 units of its messages, but for those of before that was counted. */
    messageChars: p.bigint('number').default(0),
    lastMessageAt: timeColumn().nullable(),
    /** When it was opened or last written to: what lists of sessions are ordered by. */
    activeAt: timeColumn().defaultRaw('clock_timestamp()').returning(),
    createdAt: createdAtColumn(),
  },
  triggers: [
    {
      name: 'count_opened',
      timing: 'after',
      events: ['insert'],
      body: `insert into session_count_changes (chatbot_id, delta) values (new.chatbot_id, 1);
    return null;`,
    },
    {
      name: 'count_erased',
      timing: 'after',
      events: ['delete'],
      body: `insert into session_count_changes (chatbot_id, delta) values (old.chatbot_id, -1);
    return null;`,
    },
    {
      name: 'keep_token',
      timing: 'after',
      events: ['insert'],
      body: `insert into session_tokens (hash, session_id) values (new.token_hash, new.id) on conflict do nothing;
    return null;`,
    },
    {
      name: 'place_guest',
      timing: 'after',
      events: ['insert'],
      when: '(new.guest_id IS NOT NULL)', // as PostgreSQL shows it, which the ORM compares it with
      body: `update guests set chatbot_id = new.chatbot_id where id = new.guest_id and chatbot_id is null;
    return null;`,
    },
  ],
  indexes: [
    { name: 'chat_sessions_most_active_index', properties: ['chatbot', 'activeAt', 'id'] }, // a chatbot's list, read backwards
  ],
});

/** One conversation of a guest, named or not, with a chatbot. */
export class ChatSession extends ChatSessionSchema.class {}
ChatSessionSchema.setClass(ChatSession);
export { ChatSessionSchema };

declare module '../database/tables.js' {
  interface Tables {
    chat_sessions: TableOf<typeof ChatSessionSchema>;
  }
}
