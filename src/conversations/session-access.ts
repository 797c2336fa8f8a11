import { Injectable } from '@nestjs/common';
import { type RawBuilder, sql } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { Database, type TimeText } from '../database/database.js';
import { notFound } from '../runtime/app-error.js';

/** A session with its chatbot's name and its guest, as {@link sessionColumns} selects it. */
export interface ChatSessionRow {
  id: string;
  chatbot_id: string;
  chatbot_name: string;
  guest_id: string | null;
  guest_name: string | null;
  guest_email: string | null;
  guest_created_at: TimeText | null;
  created_at: TimeText;
  last_message_at: TimeText | null;
  active_at: TimeText;
  message_count: number;
  event_token_key: string;
}

/** To be selected from {@link sessionTables}. */
export const sessionColumns = sql.raw(
  `s.id, s.chatbot_id, c.name as chatbot_name, s.guest_id, g.name as guest_name, g.email as guest_email,
   g.created_at as guest_created_at, s.created_at, s.last_message_at, s.active_at, s.message_count, s.event_token_key`,
);
export const sessionTables = sql.raw(
  'chat_sessions s join chatbots c on c.id = s.chatbot_id left join guests g on g.id = s.guest_id',
);

/** Finds sessions for those whose they are. */
@Injectable()
export class SessionAccess {
  constructor(private readonly database: Database) {}

  /**
   * The session, if it is the caller's: an owner's, of one of its chatbots; a guest's or a watcher's own.
   *
   * @throws AppError not_found
   */
  async find(caller: Principal, id: string): Promise<ChatSessionRow> {
    const [row] = await this.database.runSafely(
      sql<ChatSessionRow>`select ${sessionColumns} from ${sessionTables} where s.id = ${id} and ${isOf(caller)}`,
    );
    if (!row) throw notFound();
    return row;
  }
}

/** Whose a session is, as a condition on `chat_sessions s join chatbots c`. */
export function isOf(caller: Principal): RawBuilder<unknown> {
  return caller.kind === 'owner'
    ? sql`c.clerk_user_id = ${caller.clerkUserId}`
    : sql`s.id = ${caller.sessionId}`;
}
