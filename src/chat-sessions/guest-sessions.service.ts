import { Injectable } from '@nestjs/common';
import type { Person } from '../auth/identity-tokens.js';
import { createSessionToken } from '../auth/session-tokens.js';
import { selectSessions } from '../auth/selected-session.js';
import { isOfPerson } from '../conversations/session-access.js';
import { Database, isoTime } from '../database/database.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { RateLimits, StoreDown } from '../limits/rate-limits.js';
import { notFound } from '../runtime/app-error.js';
import { type ChatSessionDto, toChatSessionDto } from './chat-session.dto.js';

/** The sessions of a person whom the owner of a chatbot has vouched for. */
@Injectable()
export class GuestSessionsService {
  constructor(
    private readonly database: Database,
    private readonly limits: RateLimits,
  ) {}

  async list(person: Person, page: PageRequest): Promise<Page<ChatSessionDto>> {
    const list = `guest-sessions:${person.chatbotId}:${person.externalId}`;
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const rows = await this.database.read((db) => {
      const query = selectSessions(db).where(isOfPerson(person));
      return (
        after ? query.where((eb) => eb(eb.refTuple('s.active_at', 's.id'), '<', eb.tuple(...after))) : query
      )
        .orderBy('s.active_at', 'desc')
        .orderBy('s.id', 'desc')
        .limit(page.limit + 1)
        .execute();
    });
    return toPage(rows, page.limit, list, (row) => [isoTime(row.active_at), row.id], toChatSessionDto);
  }

  /** @throws AppError not_found, rate_limited */
  async createToken(person: Person, sessionId: string): Promise<string> {
    const session = await this.database.read((db) =>
      selectSessions(db).where('s.id', '=', sessionId).where(isOfPerson(person)).executeTakeFirst(),
    );
    if (!session) throw notFound();
    const chatbot = { id: session.chatbot_id, limits: session.limits };
    await this.limits.take([{ limit: 'actionsPerSession', of: session.id }], chatbot, StoreDown.Allow);
    const { token, tokenHash } = createSessionToken();
    await this.database.transaction(async (tx) => {
      // Not while it is being deleted.
      const locked = await tx
        .selectFrom('chat_sessions')
        .select('id')
        .where('id', '=', session.id)
        .forKeyShare()
        .executeTakeFirst();
      if (!locked) throw notFound();
      await tx.insertInto('session_tokens').values({ hash: tokenHash, session_id: session.id }).execute();
    });
    return token;
  }
}
