import { Injectable } from '@nestjs/common';
import { sql, type RawBuilder } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { notFound } from '../runtime/app-error.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { Database, isoTime } from '../database/database.js';
import {
  type ChatSessionDto,
  type ChatSessionRow,
  sessionColumns,
  sessionTables,
  toChatSessionDto,
} from './chat-session.dto.js';

@Injectable()
export class ChatSessionsService {
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

  async get(caller: Principal, id: string): Promise<ChatSessionDto> {
    return toChatSessionDto(await this.find(caller, id));
  }

  /** The sessions of a chatbot, most recently active first. */
  async list(clerkUserId: string, chatbotId: string, page: PageRequest): Promise<Page<ChatSessionDto>> {
    const list = `sessions:${chatbotId}`;
    const [chatbot] = await this.database.runSafely(
      sql`select 1 from chatbots where id = ${chatbotId} and clerk_user_id = ${clerkUserId}`,
    );
    if (!chatbot) throw notFound();
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const rows = await this.database.runSafely(
      sql<ChatSessionRow>`
        select ${sessionColumns} from ${sessionTables}
        where s.chatbot_id = ${chatbotId}
          ${after ? sql`and (s.active_at, s.id) < (${after[0]}, ${after[1]})` : sql``}
        order by s.active_at desc, s.id desc
        limit ${page.limit + 1}`,
    );
    return toPage(rows, page.limit, list, (row) => [isoTime(row.active_at), row.id], toChatSessionDto);
  }
}

/** Whose a session is, as a condition on `chat_sessions s join chatbots c`. */
export function isOf(caller: Principal): RawBuilder<unknown> {
  return caller.kind === 'owner'
    ? sql`c.clerk_user_id = ${caller.clerkUserId}`
    : sql`s.id = ${caller.sessionId}`;
}
