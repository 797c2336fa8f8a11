import { Inject, Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import type { Config } from '../../config/env.js';
import { newId } from '../../database/columns.js';
import { Database, now, runOn } from '../../database/database.js';
import { type IdempotentRequest, once } from '../../database/idempotency.js';
import type { Row, Tx } from '../../database/tables.js';
import { tooMuch } from '../../limits/too-much.js';
import { AppError, chatbotDisabled, notFound } from '../../runtime/app-error.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import { type MessageRow, timeOfNewest } from '../message.dto.js';
import { ReplyFinishReason, ReplyStatus } from '../reply-status.js';
import { replyRow, type ReplyRow } from '../reply.dto.js';
import { countMessage, type Dispatch, type SessionSize, timeIn, toDispatch } from './transitions.js';

/** A reply that others wait behind takes seconds; the queued one takes no more messages as soon as it begins. */
const FULL_REPLY_RETRY_SECONDS = 5;

/** What a request made, or, for a repetition with the same idempotency key, what the first one made. */
interface Retried {
  reply: ReplyRow;
  /** Null where there is no job to enqueue: it was enqueued before, or an earlier reply is unfinished. */
  dispatch: Dispatch | null;
  /** From which the events of the request follow. */
  cursor: string;
  isReplay: boolean;
}

interface Posted extends Retried {
  message: MessageRow;
}

/** The session, and whether its chatbot takes anything new: a repetition of what it took before is answered all the same. */
interface WhereToPost {
  sessionId: string;
  isEnabled: boolean;
}

/** How many messages may wait for an answer, and of how long ago they count; null: any. */
type Unanswered = { max: number; windowSeconds: number } | null;

/** What requests make: a message with the reply that will answer it, or a reply that is asked for again. */
@Injectable()
export class ReplyPosting {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG)
    private readonly config: Pick<
      Config,
      | 'REPLY_MAX_AGE_MS'
      | 'LIMIT_REPLY_MESSAGES'
      | 'LIMIT_REPLY_CHARS'
      | 'LIMIT_SESSION_MESSAGES'
      | 'LIMIT_SESSION_CHARS'
    >,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'idempotencyWaitMs'>,
  ) {}

  /**
   * Stores a user message and the reply that will answer it: the session's queued one, or a new one.
   *
   * @param cursor where the session's events stood before, kept for a repetition of the request
   * @throws AppError not_found where the session is gone, chatbot_disabled, session_full, reply_full; the idempotency errors
   */
  async post(
    { sessionId, isEnabled, unanswered }: WhereToPost & { unanswered: Unanswered },
    content: string,
    requestId: string,
    idempotent: IdempotentRequest | null,
    cursor: string,
  ): Promise<Posted> {
    return this.database.transaction(async (tx) => {
      let dispatch: Dispatch | null = null;
      const { result, isReplay } = await once(tx, idempotent, this.timings.idempotencyWaitMs, async () => {
        const size = await countMessage(tx, sessionId, content);
        if (size === null) throw notFound();
        if (!isEnabled) throw chatbotDisabled();
        this.refuseFullSession(size);
        // Locked, so that a claim waits until this message is committed, or has happened before it.
        const unfinished = await this.lockUnfinished(tx, sessionId);
        if (unanswered && unfinished.length > 0) await this.refuseUnanswered(tx, unfinished, unanswered);
        const queued = unfinished.find(({ status }) => status === ReplyStatus.Queued);
        const replyId = queued?.id ?? newId();
        if (queued) {
          await this.refuseFullReply(tx, queued.id, content);
          await runOn(tx, sql`update replies set message_count = message_count + 1 where id = ${queued.id}`);
        } else {
          dispatch = await this.insertReply(
            tx,
            { id: replyId, sessionId, requestId },
            unfinished.length === 0,
          );
        }
        const messageId = newId();
        await runOn(
          tx,
          sql`
            insert into messages (id, chat_session_id, sequence, sender, content, reply_id, created_at)
            values (${messageId}, ${sessionId}, ${size.messages}, 'user', ${content}, ${replyId}, ${timeOfNewest(sessionId)})`,
        );
        return { messageId, replyId, cursor };
      });
      const [message] = await runOn(
        tx,
        sql<MessageRow>`select * from messages where id = ${result.messageId}`,
      );
      const reply = await this.find(tx, result.replyId);
      if (!message || !reply) throw notFound();
      return { message, reply, dispatch, cursor: result.cursor, isReplay };
    });
  }

  /**
   * Makes a new reply for the messages of one that failed, was cancelled, or said that the budget is spent.
   *
   * @throws AppError not_found, chatbot_disabled, reply_not_retryable; the idempotency errors
   */
  async retry(
    { sessionId, isEnabled }: WhereToPost,
    replyId: string,
    requestId: string,
    idempotent: IdempotentRequest | null,
    cursor: string,
  ): Promise<Retried> {
    return this.database.transaction(async (tx) => {
      let dispatch: Dispatch | null = null;
      const { result, isReplay } = await once(tx, idempotent, this.timings.idempotencyWaitMs, async () => {
        const session = await tx
          .selectFrom('chat_sessions')
          .select('id')
          .where('id', '=', sessionId)
          .forUpdate()
          .executeTakeFirst();
        if (!session) throw notFound();
        if (!isEnabled) throw chatbotDisabled();
        const latest = await tx
          .selectFrom('replies')
          .select(['id', 'status', 'finish_reason'])
          .where('chat_session_id', '=', sessionId)
          .orderBy('created_at', 'desc')
          .orderBy('id', 'desc')
          .limit(1)
          .executeTakeFirst();
        const isRetryable =
          latest?.status === ReplyStatus.Failed ||
          latest?.status === ReplyStatus.Cancelled ||
          latest?.finish_reason === ReplyFinishReason.Budget;
        if (latest?.id !== replyId || !isRetryable) {
          throw new AppError(
            'reply_not_retryable',
            'Only the latest reply of a session can be retried, once it has failed, was cancelled, or said that the budget is spent.',
          );
        }
        const unfinished = await this.lockUnfinished(tx, sessionId);
        const id = newId();
        dispatch = await this.insertReply(
          tx,
          { id, sessionId, requestId, retryOf: replyId },
          unfinished.length === 0,
        );
        await tx
          .updateTable('messages')
          .set({ reply_id: id })
          .where('reply_id', '=', replyId)
          .where('sender', '=', 'user')
          .execute();
        return { replyId: id, cursor };
      });
      const reply = await this.find(tx, result.replyId);
      if (!reply) throw notFound();
      return { reply, dispatch, cursor: result.cursor, isReplay };
    });
  }

  /** @throws AppError session_full */
  private refuseFullSession({ messages, chars }: SessionSize): void {
    const { LIMIT_SESSION_MESSAGES, LIMIT_SESSION_CHARS } = this.config;
    if (messages <= LIMIT_SESSION_MESSAGES && chars <= LIMIT_SESSION_CHARS) return;
    throw new AppError('session_full', 'This session holds as much as one may. Open another.');
  }

  /**
   * @param replies that the session's messages wait for
   * @throws AppError rate_limited
   */
  private async refuseUnanswered(
    tx: Tx,
    replies: readonly { id: string }[],
    { max, windowSeconds }: NonNullable<Unanswered>,
  ): Promise<void> {
    const [waiting] = await runOn(
      tx,
      sql<{ count: number }>`
        select count(*)::int as count from messages
        where reply_id = any(${replies.map(({ id }) => id)}::uuid[]) and sender = 'user'
          and created_at > clock_timestamp() - ${windowSeconds} * interval '1 second'`,
    );
    if ((waiting?.count ?? 0) >= max) throw tooMuch('unansweredPerSession', FULL_REPLY_RETRY_SECONDS);
  }

  /**
   * @param content what is to join the reply, whose row is locked
   * @throws AppError reply_full
   */
  private async refuseFullReply(tx: Tx, replyId: string, content: string): Promise<void> {
    const { LIMIT_REPLY_MESSAGES, LIMIT_REPLY_CHARS } = this.config;
    const [joined] = await runOn(
      tx,
      sql<{ messages: number; chars: number }>`
        select count(*)::int as messages, coalesce(sum(char_length(content)), 0)::float8 as chars
        from messages where reply_id = ${replyId} and sender = 'user'`,
    );
    if (!joined) return;
    const fits = joined.messages < LIMIT_REPLY_MESSAGES && joined.chars + content.length <= LIMIT_REPLY_CHARS;
    if (fits) return;
    throw new AppError(
      'reply_full',
      'As many messages wait for one reply as it may answer. Try again later.',
      {
        retryAfterSeconds: FULL_REPLY_RETRY_SECONDS,
      },
    );
  }

  private async lockUnfinished(tx: Tx, sessionId: string): Promise<Pick<Row<'replies'>, 'id' | 'status'>[]> {
    return runOn(
      tx,
      sql<Pick<Row<'replies'>, 'id' | 'status'>>`
        select id, status from replies
        where chat_session_id = ${sessionId} and status in ('queued', 'in_progress')
        for update`,
    );
  }

  private async find(tx: Tx, replyId: string): Promise<ReplyRow | undefined> {
    const [reply] = await runOn(tx, sql<ReplyRow>`select ${replyRow} from replies where id = ${replyId}`);
    return reply;
  }

  /**
   * @param isFirst no unfinished reply precedes it, so it may go, and its age counts, from now
   * @returns the job to enqueue; null where whoever finishes the reply before it enqueues it
   */
  private async insertReply(
    tx: Tx,
    {
      id,
      sessionId,
      requestId,
      retryOf = null,
    }: { id: string; sessionId: string; requestId: string; retryOf?: string | null },
    isFirst: boolean,
  ): Promise<Dispatch | null> {
    const [reply] = await runOn(
      tx,
      sql<Row<'replies'>>`
        insert into replies
          (id, chat_session_id, request_id, retry_of_id, message_count, available_at, deadline_at, dispatch_count,
            dispatched_at)
        values (${id}, ${sessionId}, ${requestId}, ${retryOf}::uuid, ${retryOf === null ? 1 : 0},
          ${isFirst ? now : null}, ${isFirst ? timeIn(this.config.REPLY_MAX_AGE_MS) : null},
          ${isFirst ? 1 : 0}, ${isFirst ? now : null})
        returning *`,
    );
    return isFirst ? toDispatch(reply!, 0) : null;
  }
}
