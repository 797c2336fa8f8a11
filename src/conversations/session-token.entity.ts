import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, timeColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';
import { ChatSession } from './chat-session.entity.js';

const SessionTokenSchema = defineEntity({
  name: 'SessionToken',
  tableName: 'session_tokens',
  properties: {
    /** SHA-256 of the token, hex: the token itself is never stored. */
    hash: p.string().length(64).primary(),
    session: () => p.manyToOne(ChatSession).ref().deleteRule('cascade'),
    createdAt: createdAtColumn(),
    /** When it was used last, to the hour: without use it ends. */
    usedAt: timeColumn().defaultRaw('clock_timestamp()'),
  },
  indexes: [
    { name: 'session_tokens_session_index', properties: ['session', 'createdAt'] },
    { name: 'session_tokens_used_index', properties: ['usedAt'] },
  ],
  triggers: [
    {
      name: 'drop_oldest',
      timing: 'after',
      events: ['insert'],
      body: `delete from session_tokens where hash in (
      select hash from session_tokens where session_id = new.session_id order by created_at desc, hash offset 20);
    return null;`,
    },
  ],
});

/** A token of a session, which may have several: one for each device. Of more than twenty the oldest goes. */
export class SessionToken extends SessionTokenSchema.class {}
SessionTokenSchema.setClass(SessionToken);
export { SessionTokenSchema };

declare module '../database/tables.js' {
  interface Tables {
    session_tokens: TableOf<typeof SessionTokenSchema>;
  }
}
