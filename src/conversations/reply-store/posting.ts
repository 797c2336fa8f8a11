import { Inject, Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import type { Config } from '../../config/env.js';
import { newId } from '../../database/columns.js';
import { Database, now, runOn } from '../../database/database.js';
import { type IdempotentRequest, once } from '../../database/idempotency.js';
import type { Db, Row, Tx } from '../../database/tables.js';
import { tooMuch } from '../../limits/too-much.js';
import { AppError, chatbotDisabled, notFound } from '../../runtime/app-error.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import type { MessageRow } from '../message.dto.js';
import { UNKNOWN_CURSOR } from '../../events/event-stream.js';
import { isFinal, replyRow, type ReplyRow } from '../reply.dto.js';
import { type Dispatch, timeIn, toDispatch } from './transitions.js';

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

/** What a sender gives of a message. */
export interface NewMessage {
  content: string;
  /** Its own id of it: the same one again is the same message. */
  clientMessageId: string | null;
}

/** How many messages may wait for an answer, and of how long ago they count; null: any. */
type Unanswered = { max: number; windowSeconds: number } | null;

/** What became of a message, as `post_message` says it. */
const PostOutcome = {
  Stored: 'stored',
  /** Its sender has posted it before. */
  Known: 'known',
  /** Its sender has posted another one under the same id. */
  Reused: 'reused',
  /** The session is. */
  Gone: 'gone',
  /** The chatbot is. */
  Disabled: 'disabled',
  SessionFull: 'session_full',
  Unanswered: 'unanswered',
  ReplyFull: 'reply_full',
} as const;
type PostOutcome = (typeof PostOutcome)[keyof typeof PostOutcome];

interface Stored extends Pick<Posted, 'message' | 'reply' | 'dispatch'> {
  isKnown: boolean;
}

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
   * Stores a user message and the reply that will answer it: the session's queued one, or a new one. One that is known by
   * its sender's id is given as it is, with the reply that answers it now, whatever else would be refused.
   *
   * @param cursor where the session's events stood before, kept for a repetition of the request
   * @throws AppError not_found where the session is gone, chatbot_disabled, session_full, reply_full; the idempotency errors
   */
  async post(
    { sessionId, isEnabled, unanswered }: WhereToPost & { unanswered: Unanswered },
    message: NewMessage,
    requestId: string,
    idempotent: IdempotentRequest | null,
    cursor: string,
  ): Promise<Posted> {
    const store = (db: Db): Promise<Stored> =>
      this.store(db, { sessionId, isEnabled, unanswered }, message, requestId);
    const toPosted = ({ isKnown, ...stored }: Stored): Posted => ({
      ...stored,
      cursor: isKnown ? UNKNOWN_CURSOR : cursor,
      isReplay: isKnown,
    });
    if (!idempotent) return toPosted(await this.database.write(store));
    return this.database.transaction(async (tx) => {
      let posted: Posted | null = null;
      const { result } = await once(tx, idempotent, this.timings.idempotencyWaitMs, async () => {
        posted = toPosted(await store(tx));
        return { messageId: posted.message.id, replyId: posted.reply.id, cursor: posted.cursor };
      });
      return posted ?? this.findPosted(tx, result);
    });
  }

  /** In one round trip; `post_message` (see its migration) says what there is to refuse before it changes anything. */
  private async store(
    db: Db,
    { sessionId, isEnabled, unanswered }: WhereToPost & { unanswered: Unanswered },
    { content, clientMessageId }: NewMessage,
    requestId: string,
  ): Promise<Stored> {
    const { config } = this;
    const replyId = newId();
    const [told] = await runOn(
      db,
      sql<{ outcome: PostOutcome; message: MessageRow | null; reply: ReplyRow | null }>`
        select outcome, message, reply from post_message(
          ${sessionId}, ${isEnabled}, ${content}, ${content.length}, ${clientMessageId}, ${newId()}, ${replyId},
          ${requestId}, ${config.REPLY_MAX_AGE_MS}, ${config.LIMIT_SESSION_MESSAGES}, ${config.LIMIT_SESSION_CHARS},
          ${config.LIMIT_REPLY_MESSAGES}, ${config.LIMIT_REPLY_CHARS}, ${unanswered?.max ?? null},
          ${unanswered?.windowSeconds ?? null})`,
    );
    const { outcome, message, reply } = told!;
    if (outcome !== PostOutcome.Stored && outcome !== PostOutcome.Known) throw refusalOf(outcome);
    if (!message || !reply) throw notFound();
    const isNew = reply.id === replyId;
    return {
      message,
      reply: { ...reply, message_id: reply.message_id ?? null },
      dispatch: isNew && reply.available_at !== null ? toDispatch(reply, 0) : null,
      isKnown: outcome === PostOutcome.Known,
    };
  }

  /** What the first request with an idempotency key made. */
  private async findPosted(
    tx: Tx,
    { messageId, replyId, cursor }: { messageId: string; replyId: string; cursor: string },
  ): Promise<Posted> {
    const [message] = await runOn(tx, sql<MessageRow>`select * from messages where id = ${messageId}`);
    const reply = await this.find(tx, replyId);
    if (!message || !reply) throw notFound();
    return { message, reply, dispatch: null, cursor, isReplay: true };
  }

  /**
   * Makes a new reply for the messages of the session's latest, which is final. An answer that it has stays valid until the new
   * one completes.
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
          .select(['id', 'status'])
          .where('chat_session_id', '=', sessionId)
          .orderBy('created_at', 'desc')
          .orderBy('id', 'desc')
          .limit(1)
          .executeTakeFirst();
        if (latest?.id !== replyId || !isFinal(latest.status)) {
          throw new AppError(
            'reply_not_retryable',
            'Only the latest reply of a session can be retried, and only once it is final.',
          );
        }
        const unfinished = await this.lockUnfinished(tx, sessionId);
        const id = newId();
        dispatch = await this.insertRetry(
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

  private async lockUnfinished(tx: Tx, sessionId: string): Promise<{ id: string }[]> {
    return runOn(
      tx,
      sql<{ id: string }>`
        select id from replies
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
  private async insertRetry(
    tx: Tx,
    {
      id,
      sessionId,
      requestId,
      retryOf,
    }: { id: string; sessionId: string; requestId: string; retryOf: string },
    isFirst: boolean,
  ): Promise<Dispatch | null> {
    const [reply] = await runOn(
      tx,
      sql<Row<'replies'>>`
        insert into replies
          (id, chat_session_id, request_id, retry_of_id, message_count, available_at, deadline_at, dispatch_count,
            dispatched_at)
        values (${id}, ${sessionId}, ${requestId}, ${retryOf}, 0,
          ${isFirst ? now : null}, ${isFirst ? timeIn(this.config.REPLY_MAX_AGE_MS) : null},
          ${isFirst ? 1 : 0}, ${isFirst ? now : null})
        returning *`,
    );
    return isFirst ? toDispatch(reply!, 0) : null;
  }
}

/** @throws AppError what a request is told whose message was not stored */
function refusalOf(outcome: Exclude<PostOutcome, 'stored' | 'known'>): AppError {
  switch (outcome) {
    case PostOutcome.Gone:
      return notFound();
    case PostOutcome.Disabled:
      return chatbotDisabled();
    case PostOutcome.Reused:
      return new AppError('idempotency_key_reused', 'This clientMessageId was used for another message.');
    case PostOutcome.SessionFull:
      return new AppError('session_full', 'This session holds as much as one may. Open another.');
    case PostOutcome.Unanswered:
      return tooMuch('unansweredPerSession', FULL_REPLY_RETRY_SECONDS);
    case PostOutcome.ReplyFull:
      return new AppError(
        'reply_full',
        'As many messages wait for one reply as it may answer. Try again later.',
        { retryAfterSeconds: FULL_REPLY_RETRY_SECONDS },
      );
  }
}
