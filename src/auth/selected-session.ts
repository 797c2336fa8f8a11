import type { InferResult } from 'kysely';
import type { Db } from '../database/tables.js';

/** Sessions with their chatbot's name and their guest. */
export const selectSessions = (db: Db) =>
  db
    .selectFrom('chat_sessions as s')
    .innerJoin('chatbots as c', 'c.id', 's.chatbot_id')
    .leftJoin('guests as g', 'g.id', 's.guest_id')
    .select([
      's.id',
      's.chatbot_id',
      'c.name as chatbot_name',
      'c.is_enabled',
      'c.limits',
      's.guest_id',
      'g.name as guest_name',
      'g.email as guest_email',
      'g.created_at as guest_created_at',
      'g.external_id as guest_external_id',
      's.created_at',
      's.last_message_at',
      's.active_at',
      's.message_count',
      's.event_token_key',
    ]);

/** A session as {@link selectSessions} gives it. */
export type SelectedSession = InferResult<ReturnType<typeof selectSessions>>[number];
