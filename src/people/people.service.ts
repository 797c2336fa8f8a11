import { Injectable } from '@nestjs/common';
import { requireChatbot } from '../chatbots/owned-chatbot.js';
import { toMessageDto } from '../conversations/message.dto.js';
import { messageId, toReplyDto } from '../conversations/reply.dto.js';
import { Database, isoTime } from '../database/database.js';
import type { Db, Row } from '../database/tables.js';
import { toGuestDto } from '../guests/guest.dto.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { notFound } from '../runtime/app-error.js';
import type { ListedGuestDto } from './people.dto.js';

/** How many rows are read at once for an export. */
const ROWS_AT_ONCE = 500;

/** What owners do with the people who talked with their chatbots. */
@Injectable()
export class PeopleService {
  constructor(private readonly database: Database) {}

  /**
   * The guests of a chatbot, newest first.
   *
   * @param email whatever its case; undefined: any
   * @throws AppError not_found, invalid_cursor
   */
  async list(
    clerkUserId: string,
    chatbotId: string,
    email: string | undefined,
    page: PageRequest,
  ): Promise<Page<ListedGuestDto>> {
    const list = `guests:${chatbotId}:${email?.toLowerCase() ?? ''}`;
    await requireChatbot(this.database, clerkUserId, chatbotId);
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const rows = await this.database.read((db) => {
      let query = db
        .selectFrom('guests as g')
        .selectAll('g')
        .select((eb) =>
          eb
            .selectFrom('chat_sessions as s')
            .select((eb) => eb.cast<number>(eb.fn.countAll(), 'integer').as('count'))
            .whereRef('s.guest_id', '=', 'g.id')
            .as('session_count'),
        )
        .where('g.chatbot_id', '=', chatbotId);
      if (email !== undefined) {
        query = query.where((eb) =>
          eb(eb.fn<string>('lower', ['g.email']), '=', eb.fn<string>('lower', [eb.val(email)])),
        );
      }
      if (after)
        query = query.where((eb) => eb(eb.refTuple('g.created_at', 'g.id'), '<', eb.tuple(...after)));
      return query
        .orderBy('g.created_at', 'desc')
        .orderBy('g.id', 'desc')
        .limit(page.limit + 1)
        .execute();
    });
    return toPage(
      rows,
      page.limit,
      list,
      (row) => [isoTime(row.created_at), row.id],
      (row) => ({ ...toGuestDto(row), sessionCount: row.session_count ?? 0 }),
    );
  }

  /**
   * Everything that is stored about a guest, as pieces of one JSON document: `{ guest, sessions, messages, replies }`, each
   * list oldest first. It is read as it is written, some rows at a time.
   *
   * @throws AppError not_found, before the first piece
   */
  async export(clerkUserId: string, id: string): Promise<AsyncGenerator<string, void, undefined>> {
    const guest = await this.database.read((db) =>
      db
        .selectFrom('guests as g')
        .innerJoin('chatbots as c', 'c.id', 'g.chatbot_id')
        .selectAll('g')
        .where('g.id', '=', id)
        .where('c.clerk_user_id', '=', clerkUserId)
        .executeTakeFirst(),
    );
    if (!guest) throw notFound();
    return this.pieces(guest);
  }

  private async *pieces(guest: Row<'guests'>): AsyncGenerator<string, void, undefined> {
    const ofGuest = (db: Db) => db.selectFrom('chat_sessions').select('id').where('guest_id', '=', guest.id);
    yield `{"guest":${JSON.stringify(toGuestDto(guest))},"sessions":[`;
    yield* this.items(
      (db, after) =>
        db
          .selectFrom('chat_sessions')
          .selectAll()
          .where('guest_id', '=', guest.id)
          .where('id', '>', after)
          .orderBy('id')
          .limit(ROWS_AT_ONCE)
          .execute(),
      (session) => ({
        id: session.id,
        chatbotId: session.chatbot_id,
        createdAt: isoTime(session.created_at),
        lastMessageAt: session.last_message_at && isoTime(session.last_message_at),
        messageCount: session.message_count,
      }),
    );
    yield '],"messages":[';
    yield* this.items(
      (db, after) =>
        db
          .selectFrom('messages')
          .selectAll()
          .where('chat_session_id', 'in', ofGuest(db))
          .where('id', '>', after)
          .orderBy('id')
          .limit(ROWS_AT_ONCE)
          .execute(),
      toMessageDto,
    );
    yield '],"replies":[';
    yield* this.items(
      (db, after) =>
        db
          .selectFrom('replies')
          .selectAll()
          .select(messageId)
          .where('chat_session_id', 'in', ofGuest(db))
          .where('id', '>', after)
          .orderBy('id')
          .limit(ROWS_AT_ONCE)
          .execute(),
      toReplyDto,
    );
    yield ']}';
  }

  /** Ids grow with time, so that their order is that of the rows. */
  private async *items<R extends { id: string }>(
    read: (db: Db, after: string) => Promise<R[]>,
    toDto: (row: R) => object,
  ): AsyncGenerator<string, void, undefined> {
    let after = '00000000-0000-0000-0000-000000000000';
    for (let isFirst = true; ; isFirst = false) {
      const from = after;
      const rows = await this.database.read((db) => read(db, from));
      if (rows.length > 0) {
        yield (isFirst ? '' : ',') + rows.map((row) => JSON.stringify(toDto(row))).join(',');
      }
      if (rows.length < ROWS_AT_ONCE) return;
      after = rows.at(-1)!.id;
    }
  }
}
