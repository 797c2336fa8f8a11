import { Injectable } from '@nestjs/common';
import { type Expression, expressionBuilder, type InferResult, sql, type SqlBool } from 'kysely';
import type { Principal } from '../auth/principal.js';
import type { Config } from '../config/env.js';
import { Database, runOn } from '../database/database.js';
import type { Db, Tables } from '../database/tables.js';
import { notFound } from '../runtime/app-error.js';

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

/** Finds sessions for those whose they are. */
@Injectable()
export class SessionAccess {
  constructor(private readonly database: Database) {}

  /**
   * The session, if it is the caller's: an owner's, of one of its chatbots; a guest's or a watcher's own.
   *
   * @throws AppError not_found
   */
  async find(caller: Principal, id: string): Promise<SelectedSession> {
    const session = await this.database.read((db) =>
      selectSessions(db).where('s.id', '=', id).where(isOf(caller)).executeTakeFirst(),
    );
    if (!session) throw notFound();
    return session;
  }
}

/** Whose a session is, as a condition on `chat_sessions as s` joined with `chatbots as c`. */
export function isOf(caller: Principal): Expression<SqlBool> {
  const eb = expressionBuilder<{ s: Tables['chat_sessions']; c: Tables['chatbots'] }, 's' | 'c'>();
  return caller.kind === 'owner'
    ? eb('c.clerk_user_id', '=', caller.clerkUserId)
    : eb('s.id', '=', caller.sessionId);
}

/** How many tokens one round deletes; the next takes the next. */
const TOKENS_OF_ROUND = 1_000;

/** Deletes tokens that have ended for want of use. */
export async function pruneSessionTokens(
  database: Database,
  { SESSION_TOKEN_TTL_DAYS }: Pick<Config, 'SESSION_TOKEN_TTL_DAYS'>,
): Promise<void> {
  await database.write((db) =>
    runOn(
      db,
      sql`
        delete from session_tokens where hash in (
          select hash from session_tokens
          where used_at < clock_timestamp() - ${SESSION_TOKEN_TTL_DAYS} * interval '1 day'
          limit ${TOKENS_OF_ROUND})`,
    ),
  );
}
