import { Inject, Injectable } from '@nestjs/common';
import { type Expression, expressionBuilder, type RawBuilder, sql, type SqlBool } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import type { Config } from '../../config/env.js';
import { newId } from '../../database/columns.js';
import { Database, isoTimeOrNull, now, runOn } from '../../database/database.js';
import type { Row, Tables, Tx } from '../../database/tables.js';
import { type MessageRow, timeOfNewest } from '../message.dto.js';
import { ReplyMetrics } from '../reply-metrics.js';
import { type ReplyErrorCode, ReplyStatus } from '../reply-status.js';
import { messageId, replyRow, type ReplyRow } from '../reply.dto.js';
import type { PastAttempt } from '../reply.entity.js';

/**
 * Every statement that changes a reply stands in this folder, and nowhere else: posting, claims, cancelling,
 * dispatching, publication and reconciliation. What they share is here. The invariants:
 *
 * - A reply is claimed with a fresh `lease_token`, and every write of that claim carries it in its WHERE (the
 *   fence). No row back means that the claim is lost: whoever wrote must stop.
 * - Once claimed, a reply stays `in_progress` until it is final, between its attempts without a lease, so that
 *   its successor can neither overtake it nor collide with it.
 * - A final reply never changes again.
 * - A transaction that touches both locks the session first, then the reply.
 * - All times are PostgreSQL's: the clocks of processes differ.
 */

/** The right to write for one attempt of a reply. */
export interface Claim {
  replyId: string;
  sessionId: string;
  attempt: number;
  leaseToken: string;
}

/** A job to be enqueued: the reply's nth, not to be worked on before `delayMs` have passed. */
export interface Dispatch {
  replyId: string;
  sessionId: string;
  chatbotId: string | null;
  number: number;
  delayMs: number;
  /** The same as a time of PostgreSQL's, ISO 8601. */
  dueAt: string | null;
  requestId: string | null;
}

/** A final reply with its AI message where it has one, and the successor that may go now. */
export interface Finished {
  reply: ReplyRow;
  message: MessageRow | null;
  next: Dispatch | null;
}

export const milliseconds = (count: number): RawBuilder<unknown> =>
  sql`(${count} * interval '1 millisecond')`;

/** PostgreSQL's time, so many milliseconds from now. */
export const timeIn = (count: number): RawBuilder<string> => sql`(${now} + ${milliseconds(count)})`;

/** Conditions on a reply. */
export const aReply = expressionBuilder<Tables, 'replies'>();

/** The newest attempts that a row keeps of those that another one followed. */
const MAX_PAST_ATTEMPTS = 20;

/**
 * What the row's past attempts become when the one that it is in ends, and another is to follow.
 *
 * @param reason a ReplyErrorCode or a LostReason
 */
export const withPastAttempt = (reason: string): RawBuilder<PastAttempt[]> => sql`(
  case when jsonb_array_length(past_attempts) < ${MAX_PAST_ATTEMPTS} then past_attempts else past_attempts - 0 end
  || jsonb_build_object('attempt', attempt, 'worker', claimed_by, 'model', model, 'claimedAt', claimed_at,
    'endedAt', clock_timestamp(), 'reason', ${reason}::text))`;

/** The fence. */
export const holds = ({ replyId, leaseToken }: Claim): Expression<SqlBool> =>
  aReply.and({ id: replyId, lease_token: leaseToken, status: ReplyStatus.InProgress });

export const toDispatch = (reply: Row<'replies'>, delayMs: number): Dispatch => ({
  replyId: reply.id,
  sessionId: reply.chat_session_id,
  chatbotId: reply.chatbot_id,
  number: reply.dispatch_count,
  delayMs,
  dueAt: isoTimeOrNull(reply.available_at),
  requestId: reply.request_id,
});

/** How much a session holds, by what its row counts. */
export interface SessionSize {
  /** The sequence of the newest message. */
  messages: number;
  /** UTF-16 units of all of them. */
  chars: number;
}

/** Locks the session and counts one message more; null where the session is gone. */
export async function countMessage(tx: Tx, sessionId: string, content: string): Promise<SessionSize | null> {
  const [session] = await runOn(
    tx,
    sql<SessionSize>`
      update chat_sessions
      set message_count = message_count + 1, message_chars = message_chars + ${content.length},
        last_message_at = clock_timestamp(), active_at = clock_timestamp()
      where id = ${sessionId}
      returning message_count as messages, message_chars::float8 as chars`,
  );
  return session ?? null;
}

/** Makes a reply final, and gives it back; undefined where the claim is lost or the reply is final already. */
export type Transition = (tx: Tx) => Promise<ReplyRow | undefined>;

/** Fails the reply that the condition names; it must not be final. */
export const failing =
  (where: Expression<SqlBool>, errorCode: ReplyErrorCode | Expression<ReplyErrorCode>): Transition =>
  (tx) =>
    tx
      .updateTable('replies')
      .set({
        status: ReplyStatus.Failed,
        error_code: errorCode,
        finished_at: now,
        lease_token: null,
        lease_until: null,
        partial_text: null,
      })
      .where(where)
      .returningAll()
      .returning(messageId)
      .executeTakeFirst();

/** The one way in which a reply ends, whoever ends it. */
@Injectable()
export class ReplyTransitions {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Pick<Config, 'REPLY_MAX_AGE_MS'>,
    private readonly metrics: ReplyMetrics,
  ) {}

  /** Every end of a reply: under the session's lock, with its message, and its successor let go. */
  async finish(
    sessionId: string,
    replyId: string,
    text: string | null,
    transition: Transition,
  ): Promise<Finished | null> {
    const finished = await this.database.transaction<Finished | null>(
      async (tx) => {
        await runOn(tx, sql`select 1 from chat_sessions where id = ${sessionId} for update`);
        const reply = await transition(tx);
        if (reply === undefined) return null;
        let message: MessageRow | null = null;
        if (text !== null) {
          const size = await countMessage(tx, sessionId, text);
          [message = null] = await runOn(
            tx,
            sql<MessageRow>`
            insert into messages (id, chat_session_id, sequence, sender, content, reply_id, created_at)
            values (${newId()}, ${sessionId}, ${size?.messages ?? null}, 'ai', ${text}, ${replyId}, ${timeOfNewest(sessionId)})
            returning *`,
          );
        }
        const [successor] = await runOn(
          tx,
          sql<ReplyRow>`
          update replies
          set available_at = clock_timestamp(), deadline_at = clock_timestamp() + ${milliseconds(this.config.REPLY_MAX_AGE_MS)},
            dispatch_count = dispatch_count + 1, dispatched_at = clock_timestamp()
          where chat_session_id = ${sessionId} and status = 'queued' and available_at is null
          returning ${replyRow}`,
        );
        return {
          reply: { ...reply, message_id: message?.id ?? null },
          message,
          next: successor ? toDispatch(successor, 0) : null,
        };
      },
      { isRepeatable: true },
    );
    if (finished) this.metrics.finished(finished.reply);
    return finished;
  }
}
