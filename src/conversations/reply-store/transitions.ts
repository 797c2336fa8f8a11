import { Inject, Injectable } from '@nestjs/common';
import { type Expression, expressionBuilder, type RawBuilder, sql, type SqlBool } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import type { Config } from '../../config/env.js';
import { newId } from '../../database/columns.js';
import { Database, isoTimeOrNull, now, runOn } from '../../database/database.js';
import type { Row, Tables, Tx } from '../../database/tables.js';
import type { MessageRow } from '../message.dto.js';
import { ReplyMetrics } from '../reply-metrics.js';
import { type ReplyErrorCode, type ReplyFinishReason, ReplyStatus } from '../reply-status.js';
import { messageId, type ReplyRow } from '../reply.dto.js';
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
 * @param firstTokenAt when its first text came, where somebody knows better than the row
 */
export const withPastAttempt = (
  reason: string,
  firstTokenAt: RawBuilder<string | null> = sql`attempt_first_token_at`,
): RawBuilder<PastAttempt[]> => sql`(
  case when jsonb_array_length(past_attempts) < ${MAX_PAST_ATTEMPTS} then past_attempts else past_attempts - 0 end
  || jsonb_build_object('attempt', attempt, 'worker', claimed_by, 'model', model, 'claimedAt', claimed_at,
    'firstTokenAt', ${firstTokenAt}, 'endedAt', clock_timestamp(), 'reason', ${reason}::text))`;

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

/** What `close_reply` gives, as the migration says that made it. */
interface Closed {
  message: MessageRow | null;
  next: Row<'replies'> | null;
}

/** Makes a reply final, and gives it back; undefined where the claim is lost or the reply is final already. */
export type Transition = (tx: Tx) => Promise<ReplyRow | undefined>;

/** Fails the reply that the condition names; it must not be final. */
export const failing =
  (
    where: Expression<SqlBool>,
    errorCode: ReplyErrorCode | Expression<ReplyErrorCode>,
    outputTokens: RawBuilder<number | null> = sql`output_tokens`,
  ): Transition =>
  (tx) =>
    tx
      .updateTable('replies')
      .set({
        status: ReplyStatus.Failed,
        output_tokens: outputTokens,
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

/** What a reply says at its end. */
export interface Completion {
  text: string;
  finishReason: ReplyFinishReason;
  /** Null: no model was asked in this attempt, whatever an earlier one had noted. */
  usage: Usage | null;
  /** How long ago its first text came, in milliseconds. */
  firstTextMs: number;
}

export interface Usage {
  inputTokens: number;
  outputTokens: number;
  isEstimated: boolean;
}

/** The one way in which a reply ends, whoever ends it. */
@Injectable()
export class ReplyTransitions {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Pick<Config, 'REPLY_MAX_AGE_MS'>,
    private readonly metrics: ReplyMetrics,
  ) {}

  /** Every end of a reply but its completion: under the session's lock, with its message, and its successor let go. */
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
        const [closed] = await runOn(
          tx,
          sql<Closed>`
            select message, next from close_reply(
              ${sessionId}, ${replyId}, ${text}, ${text?.length ?? 0}, ${newId()}, ${this.config.REPLY_MAX_AGE_MS})`,
        );
        return toFinished(reply, closed!);
      },
      { isRepeatable: true },
    );
    return this.counted(finished);
  }

  /**
   * The completion, which most replies end in: the same in one round trip.
   *
   * @returns null where the claim is lost
   */
  async complete(
    { sessionId, replyId, leaseToken }: Claim,
    completion: Completion,
  ): Promise<Finished | null> {
    const { text, finishReason, usage, firstTextMs } = completion;
    const [completed] = await this.database.write(
      (db) =>
        runOn(
          db,
          sql<Closed & { reply: Row<'replies'> | null }>`
            select reply, message, next from complete_reply(
              ${sessionId}, ${replyId}, ${leaseToken}, ${text}, ${text.length}, ${newId()}, ${finishReason},
              ${usage?.inputTokens ?? null}, ${usage?.outputTokens ?? null}, ${usage?.isEstimated ?? false},
              ${firstTextMs}, ${this.config.REPLY_MAX_AGE_MS})`,
        ),
      { isRepeatable: true },
    );
    return this.counted(completed!.reply === null ? null : toFinished(completed!.reply, completed!));
  }

  private counted(finished: Finished | null): Finished | null {
    if (finished) this.metrics.finished(finished.reply);
    return finished;
  }
}

const toFinished = (reply: Row<'replies'>, { message, next }: Closed): Finished => ({
  reply: { ...reply, message_id: message?.id ?? null },
  message,
  next: next && toDispatch(next, 0),
});
