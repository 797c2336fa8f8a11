import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { notFound } from '../runtime/app-error.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { Database, isoTime } from '../database/database.js';
import {
  type ChatSessionRow,
  SessionAccess,
  sessionColumns,
  sessionTables,
} from '../conversations/session-access.js';
import { type ChatSessionDto, toChatSessionDto } from './chat-session.dto.js';

@Injectable()
export class ChatSessionsService {
  constructor(
    private readonly database: Database,
    private readonly access: SessionAccess,
  ) {}

  async get(caller: Principal, id: string): Promise<ChatSessionDto> {
    return toChatSessionDto(await this.access.find(caller, id));
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
