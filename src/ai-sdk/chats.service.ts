import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { type MessageDto, type MessageRow, toMessageDto } from '../conversations/message.dto.js';
import { MessageSender } from '../conversations/message.entity.js';
import { isFinal, messageId, type ReplyDto, type ReplyRow, toReplyDto } from '../conversations/reply.dto.js';
import { SessionAccess } from '../conversations/session-access.js';
import { Database, now } from '../database/database.js';
import { isId } from '../http/id-param.js';
import type { RequestOrigin } from '../http/request-origin.js';
import { MessagesService } from '../messages/messages.service.js';
import { RepliesService } from '../replies/replies.service.js';
import { AppError } from '../runtime/app-error.js';
import { type ChatRequest, ChatTrigger } from './chat-request.js';

/**
 * A client loads the history, and then asks for the stream: a reply that ended in between stands in neither, so it is told
 * again for so long. In seconds.
 */
const TOLD_AGAIN_SECONDS = 10;

/** Which reply answers what a client of the AI SDK asks for. */
@Injectable()
export class ChatsService {
  constructor(
    private readonly database: Database,
    private readonly sessions: SessionAccess,
    private readonly messages: MessagesService,
    private readonly replies: RepliesService,
  ) {}

  /**
   * The reply that answers: the one of the message, which is stored where it was not, or a new one instead of it.
   *
   * @throws AppError not_found, rate_limited, chatbot_disabled, message_not_editable, reply_not_retryable, session_full,
   *   reply_full, idempotency_key_reused
   */
  async replyTo(
    caller: Principal,
    sessionId: string,
    request: ChatRequest,
    origin: RequestOrigin,
  ): Promise<ReplyDto> {
    const { trigger, question, messageId: answerId } = request;
    const { id } = await this.sessions.find(caller, sessionId);
    if (trigger === ChatTrigger.Regenerate) return this.regenerate(caller, id, request, origin);
    if (answerId !== null) {
      throw new AppError(
        'message_not_editable',
        'A message that was sent cannot be changed. Send a new one.',
      );
    }
    return this.post(caller, id, question!, origin);
  }

  private async post(
    caller: Principal,
    sessionId: string,
    { id, text }: { id: string; text: string },
    origin: RequestOrigin,
  ): Promise<ReplyDto> {
    // A message that came without an id of its sender's is known to clients by our own.
    const known = isId(id) ? await this.findMessage(sessionId, id) : undefined;
    const reply =
      known?.reply_id && known.client_message_id === null && known.content === text
        ? await this.findReply(sessionId, known.reply_id)
        : undefined;
    if (reply) return toReplyDto(reply);
    const message = { content: text, clientMessageId: id };
    const { posted } = await this.messages.post(caller, sessionId, message, origin, null);
    return posted.reply;
  }

  private async regenerate(
    caller: Principal,
    sessionId: string,
    { question, messageId: answerId }: ChatRequest,
    origin: RequestOrigin,
  ): Promise<ReplyDto> {
    const message = question && (await this.findMessage(sessionId, question.id));
    if (question && !message) return this.post(caller, sessionId, question, origin); // it never arrived
    const replyId = message?.reply_id ?? answerId ?? '';
    const reply = isId(replyId) ? await this.findReply(sessionId, replyId) : undefined;
    if (!reply)
      throw new AppError('reply_not_retryable', 'There is no answer to this that could be made anew.');
    if (!isFinal(reply.status)) return toReplyDto(reply);
    try {
      return (await this.replies.retry(caller, reply.id, origin.requestId, null)).reply;
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'reply_not_retryable') throw error;
      // Somebody may have asked for the same a moment before.
      const other = message && (await this.findMessage(sessionId, message.id));
      const otherReply = other?.reply_id ? await this.findReply(sessionId, other.reply_id) : undefined;
      if (otherReply && !isFinal(otherReply.status)) return toReplyDto(otherReply);
      throw error;
    }
  }

  /**
   * The reply that a client may go on with: the session's first unfinished one, or one that ended a moment ago.
   *
   * @returns null where there is none
   * @throws AppError not_found
   */
  async current(caller: Principal, sessionId: string): Promise<ReplyDto | null> {
    const { id } = await this.sessions.find(caller, sessionId);
    const reply = await this.database.read((db) =>
      db
        .selectFrom('replies')
        .selectAll()
        .select(messageId)
        .where('chat_session_id', '=', id)
        .where((eb) =>
          eb.or([
            eb('finished_at', 'is', null),
            eb('finished_at', '>', sql<string>`${now} - ${TOLD_AGAIN_SECONDS} * interval '1 second'`),
          ]),
        )
        .orderBy(sql`finished_at is not null`)
        .orderBy(sql`case when finished_at is null then created_at end`)
        .orderBy('finished_at', 'desc')
        .limit(1)
        .executeTakeFirst(),
    );
    return reply ? toReplyDto(reply) : null;
  }

  /**
   * Stops a reply of the session: the one that is named, or else the first that is unfinished, if any is.
   *
   * @throws AppError not_found, rate_limited
   */
  async stop(caller: Principal, sessionId: string, replyId: string | null): Promise<void> {
    const { id } = await this.sessions.find(caller, sessionId);
    if (replyId !== null && !(await this.findReply(id, replyId))) return;
    const current = replyId === null ? await this.current(caller, id) : null;
    const stopped = replyId ?? (current && !isFinal(current.status) ? current.id : null);
    if (stopped !== null) await this.replies.cancel(caller, stopped);
  }

  /** What a final reply said. */
  async answerOf(replyId: string): Promise<MessageDto | null> {
    const row = await this.database.read((db) =>
      db
        .selectFrom('messages')
        .selectAll()
        .where('reply_id', '=', replyId)
        .where('sender', '=', MessageSender.Ai)
        .executeTakeFirst(),
    );
    return row ? toMessageDto(row) : null;
  }

  /** A user's message, by its sender's id of it or by ours. */
  private findMessage(sessionId: string, id: string): Promise<MessageRow | undefined> {
    return this.database.read((db) =>
      db
        .selectFrom('messages')
        .selectAll()
        .where('chat_session_id', '=', sessionId)
        .where('sender', '=', MessageSender.User)
        .where((eb) => eb.or([eb('client_message_id', '=', id), ...(isId(id) ? [eb('id', '=', id)] : [])]))
        .executeTakeFirst(),
    );
  }

  private findReply(sessionId: string, id: string): Promise<ReplyRow | undefined> {
    return this.database.read((db) =>
      db
        .selectFrom('replies')
        .selectAll()
        .select(messageId)
        .where('chat_session_id', '=', sessionId)
        .where('id', '=', id)
        .executeTakeFirst(),
    );
  }
}
