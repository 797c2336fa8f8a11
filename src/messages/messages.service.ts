import { Injectable } from '@nestjs/common';
import type { Principal } from '../auth/principal.js';
import type { RequestOrigin } from '../http/request-origin.js';
import { decodeCursor, isSequenceKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { SessionAccess } from '../conversations/session-access.js';
import { RateLimits, StoreDown } from '../limits/rate-limits.js';
import { Database } from '../database/database.js';
import type { IdempotentRequest } from '../database/idempotency.js';
import { type MessageDto, toMessageDto } from '../conversations/message.dto.js';
import type { PostedMessageDto } from './posted-message.dto.js';
import { toReplyDto } from '../conversations/reply.dto.js';
import { ReplyEventPublisher } from '../conversations/reply-event-publisher.js';
import { type NewMessage, ReplyPosting } from '../conversations/reply-store/posting.js';
import { ReplyQueue } from '../conversations/reply-queue.js';

export type Order = 'asc' | 'desc';

@Injectable()
export class MessagesService {
  constructor(
    private readonly database: Database,
    private readonly sessions: SessionAccess,
    private readonly limits: RateLimits,
    private readonly posting: ReplyPosting,
    private readonly publisher: ReplyEventPublisher,
    private readonly queue: ReplyQueue,
  ) {}

  /**
   * Stores a user message and the reply to come, publishes both, and enqueues the reply. Returns as soon as both
   * are stored: neither a slow stream nor a dead queue fails it, since both are made up for from the rows.
   *
   * @returns the answer, and the cursor from which the events of this post follow
   * @throws AppError not_found, rate_limited, chatbot_disabled, session_full, reply_full; the idempotency errors
   */
  async post(
    caller: Principal,
    sessionId: string,
    message: NewMessage,
    { requestId, address }: RequestOrigin,
    idempotent: IdempotentRequest | null,
  ): Promise<{ posted: PostedMessageDto; cursor: string; isReplay: boolean }> {
    const session = await this.sessions.find(caller, sessionId);
    const chatbot = { id: session.chatbot_id, limits: session.limits };
    await this.limits.take(
      [
        { limit: 'messagesPerSession', of: session.id },
        // An owner's server posts for many guests from one address.
        ...(caller.kind === 'owner' ? [] : [{ limit: 'messagesPerAddress' as const, of: address }]),
        { limit: 'messagesPerChatbot', of: session.chatbot_id },
      ],
      chatbot,
      StoreDown.Refuse,
    );
    const cursor = await this.publisher.cursor(session.id);
    const where = {
      sessionId: session.id,
      isEnabled: session.is_enabled,
      unanswered: this.limits.unansweredOf(chatbot),
    };
    const stored = await this.posting.post(where, message, requestId, idempotent, cursor);
    const posted = { message: toMessageDto(stored.message), reply: toReplyDto(stored.reply) };
    if (!stored.isReplay) {
      await Promise.all([
        this.publisher.publishPosted(posted.message, posted.reply),
        stored.dispatch && this.queue.enqueue(stored.dispatch),
      ]);
    }
    return { posted, cursor: stored.cursor, isReplay: stored.isReplay };
  }

  /** @returns a page, and a cursor from which the events follow that may tell what the page does not hold yet */
  async list(
    caller: Principal,
    sessionId: string,
    order: Order,
    page: PageRequest,
  ): Promise<{ listed: Page<MessageDto>; cursor: string }> {
    const session = await this.sessions.find(caller, sessionId);
    const list = `messages:${session.id}:${order}`;
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isSequenceKey);
    const cursor = await this.publisher.cursor(session.id); // before the rows: they may be ahead of it, never behind
    const rows = await this.database.read((db) => {
      const query = db.selectFrom('messages').selectAll().where('chat_session_id', '=', session.id);
      return (after ? query.where('sequence', order === 'asc' ? '>' : '<', after[0]) : query)
        .orderBy('sequence', order)
        .limit(page.limit + 1)
        .execute();
    });
    return { listed: toPage(rows, page.limit, list, (row) => [row.sequence], toMessageDto), cursor };
  }
}
