import { Injectable } from '@nestjs/common';
import { type Expression, expressionBuilder, sql, type SqlBool } from 'kysely';
import type { Person } from '../auth/identity-tokens.js';
import type { Principal } from '../auth/principal.js';
import { type SelectedSession, selectSessions } from '../auth/selected-session.js';
import type { Config } from '../config/env.js';
import { Database, runOn } from '../database/database.js';
import type { Tables } from '../database/tables.js';
import { notFound } from '../runtime/app-error.js';

/** Finds sessions for those whose they are. */
@Injectable()
export class SessionAccess {
  constructor(private readonly database: Database) {}

  /**
   * The session, if it is the caller's: an owner's, of one of its chatbots; a guest's or a watcher's own, which was read to know
   * who calls.
   *
   * @throws AppError not_found
   */
  async find(caller: Principal, id: string): Promise<SelectedSession> {
    if ('session' in caller) {
      if (caller.session.id !== id) throw notFound();
      return caller.session;
    }
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
  switch (caller.kind) {
    case 'owner':
      return eb('c.clerk_user_id', '=', caller.clerkUserId);
    case 'person':
      return isOfPerson(caller.person);
    default:
      return eb('s.id', '=', caller.session.id);
  }
}

/** The sessions of somebody whom the owner of the chatbot has vouched for. */
export function isOfPerson({ chatbotId, externalId }: Person): Expression<SqlBool> {
  const eb = expressionBuilder<Tables & { s: Tables['chat_sessions'] }, 's'>();
  return eb('s.guest_id', 'in', (sub) =>
    sub
      .selectFrom('guests as known')
      .select('known.id')
      .where('known.chatbot_id', '=', chatbotId)
      .where('known.external_id', '=', externalId),
  );
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
