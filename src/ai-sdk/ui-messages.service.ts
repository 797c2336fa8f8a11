import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { MessageSender } from '../conversations/message.entity.js';
import { earlierReplies } from '../conversations/reply-store/retries.js';
import { messageId, type ReplyDto, type ReplyRow, toReplyDto } from '../conversations/reply.dto.js';
import { SessionAccess } from '../conversations/session-access.js';
import { Database, isoTime } from '../database/database.js';
import type { Row } from '../database/tables.js';
import type { UiMessageDto } from './ui-message.dto.js';

/** A session's messages as clients of the AI SDK keep them. */
@Injectable()
export class UiMessagesService {
  constructor(
    private readonly database: Database,
    private readonly sessions: SessionAccess,
  ) {}

  /**
   * The newest messages, oldest first, without those that others were made instead of, or are being made instead of: that
   * reply's stream would put its text behind them.
   *
   * @throws AppError not_found
   */
  async list(caller: Principal, sessionId: string, limit: number): Promise<UiMessageDto[]> {
    const { id } = await this.sessions.find(caller, sessionId);
    const retry = await this.database.read((db) =>
      db
        .selectFrom('replies')
        .select('id')
        .where('chat_session_id', '=', id)
        .where('finished_at', 'is', null)
        .where('retry_of_id', 'is not', null)
        .executeTakeFirst(),
    );
    const messages = await this.database.read((db) =>
      db
        .selectFrom('messages')
        .selectAll()
        .where('chat_session_id', '=', id)
        .where('superseded_by', 'is', null)
        .$if(retry !== undefined, (query) =>
          query.where((eb) =>
            eb.or([
              eb('sender', '=', MessageSender.User),
              eb('reply_id', 'is', null),
              sql<boolean>`reply_id not in ${earlierReplies(retry!.id)}`,
            ]),
          ),
        )
        .orderBy('sequence', 'desc')
        .limit(limit)
        .execute(),
    );
    const replies = await this.repliesOf(messages);
    return messages
      .reverse()
      .map((message) => toUiMessage(message, replies.get(message.reply_id ?? '') ?? null));
  }

  private async repliesOf(messages: readonly Row<'messages'>[]): Promise<Map<string, ReplyDto>> {
    const ids = [...new Set(messages.flatMap(({ reply_id }) => reply_id ?? []))];
    if (ids.length === 0) return new Map();
    const rows: ReplyRow[] = await this.database.read((db) =>
      db.selectFrom('replies').selectAll().select(messageId).where('id', 'in', ids).execute(),
    );
    return new Map(rows.map((row) => [row.id, toReplyDto(row)]));
  }
}

function toUiMessage(message: Row<'messages'>, reply: ReplyDto | null): UiMessageDto {
  const isUser = message.sender === MessageSender.User;
  return {
    id: isUser ? (message.client_message_id ?? message.id) : (message.reply_id ?? message.id),
    role: isUser ? 'user' : 'assistant',
    metadata: {
      createdAt: isoTime(message.created_at),
      replyId: message.reply_id,
      status: reply?.status ?? null,
      usage: reply?.usage ?? null,
    },
    parts: [{ type: 'text', text: message.content, state: 'done' }],
  };
}
