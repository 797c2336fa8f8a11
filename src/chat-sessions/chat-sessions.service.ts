import { Injectable } from '@nestjs/common';
import { requireChatbot } from '../chatbots/owned-chatbot.js';
import type { Principal } from '../auth/principal.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { Database, isoTime } from '../database/database.js';
import { selectSessions } from '../auth/selected-session.js';
import { SessionAccess } from '../conversations/session-access.js';
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
    await requireChatbot(this.database, clerkUserId, chatbotId);
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const rows = await this.database.read((db) => {
      const query = selectSessions(db).where('s.chatbot_id', '=', chatbotId);
      return (
        after
          ? query.where((eb) => eb(eb.refTuple('s.active_at', 's.id'), '<', eb.tuple(...after))) // one range of the index
          : query
      )
        .orderBy('s.active_at', 'desc')
        .orderBy('s.id', 'desc')
        .limit(page.limit + 1)
        .execute();
    });
    return toPage(rows, page.limit, list, (row) => [isoTime(row.active_at), row.id], toChatSessionDto);
  }
}
