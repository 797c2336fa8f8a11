import { defineEntity, p } from '@mikro-orm/core';
import type { TableOf } from '../database/tables.js';

const SessionCountChangeSchema = defineEntity({
  name: 'SessionCountChange',
  tableName: 'session_count_changes',
  properties: {
    id: p.bigint('number').primary().autoincrement(),
    /** No foreign key: of a chatbot that is gone it means nothing, and is deleted as any other. */
    chatbotId: p.uuid(),
    delta: p.smallint(),
  },
});

/**
 * That a chatbot has a session more, or less. Counted into its row by the reconciler: openings would wait for each other
 * at that row.
 */
export class SessionCountChange extends SessionCountChangeSchema.class {}
SessionCountChangeSchema.setClass(SessionCountChange);
export { SessionCountChangeSchema };

declare module '../database/tables.js' {
  interface Tables {
    session_count_changes: TableOf<typeof SessionCountChangeSchema>;
  }
}
