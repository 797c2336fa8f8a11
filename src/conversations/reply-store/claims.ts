import { Inject, Injectable } from '@nestjs/common';
import { sql, type RawBuilder } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import { attemptBudget, type Config } from '../../config/env.js';
import { isUniqueViolation } from '../../database/database-errors.js';
import { Database, runOn } from '../../database/database.js';
import { PROCESS_NAME } from '../../runtime/process-name.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import { LostReason, type ReplyErrorCode } from '../reply-status.js';
import { replyRow, type ReplyRow } from '../reply.dto.js';
import {
  type Claim,
  type Completion,
  type Dispatch,
  failing,
  type Finished,
  holds,
  milliseconds,
  ReplyTransitions,
  timeIn,
  toDispatch,
  withPastAttempt,
} from './transitions.js';

/** How many of a chatbot's characteristics a prompt held, and of how many. */
export interface CharacteristicsUsed {
  used: number;
  of: number;
}

/** The text of an attempt that no answer came of. */
export interface LostText {
  /** How long ago the first of it came, in milliseconds. */
  firstTextMs: number;
  /** How many tokens it has at most. */
  tokens: number;
}

/** What a row notes of a text that is lost: it was paid for. */
const outputOf = (lost: LostText | null): RawBuilder<number | null> =>
  lost === null ? sql`output_tokens` : sql`${lost.tokens}::int`;

/**
 * @param firstTextMs how long ago the first text of the attempt came; null: it had none
 * @returns the time of that, where the row does not have one already
 */
const known = (
  column: 'first_token_at' | 'attempt_first_token_at',
  firstTextMs: number | null,
): RawBuilder<string | null> =>
  firstTextMs === null ? sql`${sql.ref(column)}` : sql`coalesce(${sql.ref(column)}, ${timeIn(-firstTextMs)})`;

/** What a worker does with a reply, from taking it to letting it go; each write but the first is fenced. */
@Injectable()
export class ReplyClaims {
  private readonly attemptBudget: number;

  constructor(
    private readonly database: Database,
    @Inject(CONFIG) config: Pick<Config, 'REPLY_ATTEMPTS' | 'OPENAI_FALLBACK_MODEL'>,
    private readonly transitions: ReplyTransitions,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'leaseMs'>,
  ) {
    this.attemptBudget = attemptBudget(config);
  }

  /**
   * Takes a due reply for one attempt; null where there is nothing to do: it is final, gone, not due yet, or
   * somebody else's. Only the reconciler clears an expired lease, since that is charged as a failure.
   */
  async claim(replyId: string): Promise<{ claim: Claim; reply: ReplyRow } | null> {
    try {
      const [row] = await this.database.write((db) =>
        runOn(
          db,
          sql<ReplyRow & { lease_token: string }>`
          update replies
          set status = 'in_progress', attempt = attempt + 1, lease_token = gen_random_uuid(),
            lease_until = clock_timestamp() + ${milliseconds(this.timings.leaseMs)}, partial_text = null,
            reserved_tokens = null, claimed_by = ${PROCESS_NAME}, claimed_at = clock_timestamp(),
            attempt_first_token_at = null,
            started_at = coalesce(started_at, clock_timestamp())
          where id = ${replyId} and status in ('queued', 'in_progress') and lease_token is null
            and cancel_requested_at is null
            and available_at <= clock_timestamp() + interval '1 millisecond' -- stored times are rounded
            and deadline_at > clock_timestamp() and failures < ${this.attemptBudget}
          returning ${replyRow}`,
        ),
      );
      if (row === undefined) return null;
      return {
        reply: row,
        claim: {
          replyId: row.id,
          sessionId: row.chat_session_id,
          attempt: row.attempt,
          leaseToken: row.lease_token,
        },
      };
    } catch (error) {
      if (isUniqueViolation(error)) return null; // another reply of the session is in progress
      throw error;
    }
  }

  /** Extends the lease. @returns whether the claim still holds, and no cancel was requested */
  async heartbeat(claim: Claim): Promise<boolean> {
    const rows = await this.database.write(
      (db) =>
        runOn(
          db,
          sql`
        update replies set lease_until = clock_timestamp() + ${milliseconds(this.timings.leaseMs)}
        where ${holds(claim)} and cancel_requested_at is null
        returning id`,
        ),
      { isRepeatable: true },
    );
    return rows.length === 1;
  }

  /** Notes what is about to be asked, before it is. @returns whether the claim still holds */
  async beginCall(
    claim: Claim,
    model: string,
    estimatedInputTokens: number,
    characteristics: CharacteristicsUsed,
  ): Promise<boolean> {
    return this.fenced(
      claim,
      // What an attempt before came to, where it had text, is spent.
      sql`model = ${model}, input_tokens = ${estimatedInputTokens}, output_tokens = null, is_usage_estimated = true,
        spent_input_tokens = spent_input_tokens + case when output_tokens is null then 0 else coalesce(input_tokens, 0) end,
        spent_output_tokens = spent_output_tokens + coalesce(output_tokens, 0),
        characteristics_used = ${characteristics.used}, characteristics_of = ${characteristics.of}`,
    );
  }

  /**
   * Keeps the text so far, for the case that the event stream is lost.
   *
   * @param firstTextMs how long ago the first of it came
   * @returns whether the claim still holds
   */
  async checkpoint(claim: Claim, text: string, firstTextMs: number): Promise<boolean> {
    return this.fenced(
      claim,
      sql`partial_text = ${text}, first_token_at = ${known('first_token_at', firstTextMs)},
        attempt_first_token_at = ${known('attempt_first_token_at', firstTextMs)}`,
    );
  }

  private async fenced(claim: Claim, assignments: RawBuilder<unknown>): Promise<boolean> {
    const rows = await this.database.write(
      (db) =>
        runOn(db, sql<{ id: string }>`update replies set ${assignments} where ${holds(claim)} returning id`),
      { isRepeatable: true },
    );
    return rows.length === 1;
  }

  /**
   * Completes a reply: the AI message, the final state and the usage at once.
   *
   * @returns null where the claim is lost: the text is to be dropped
   */
  async complete(claim: Claim, completion: Completion): Promise<Finished | null> {
    return this.transitions.complete(claim, completion);
  }

  /**
   * Fails a reply for good.
   *
   * @param lost the text of its last attempt; null: it had none
   * @returns null where the claim is lost
   */
  async fail(
    claim: Claim,
    errorCode: ReplyErrorCode,
    lost: LostText | null = null,
  ): Promise<Finished | null> {
    const transition = failing(holds(claim), errorCode, outputOf(lost));
    return this.transitions.finish(claim.sessionId, claim.replyId, null, transition);
  }

  /**
   * Ends an attempt after a passing fault, and allows another one after a pause, unless the budget or the time
   * is spent: then the reply fails with the code of this fault.
   *
   * @param lost its text; null: it had none
   */
  async retryLater(
    claim: Claim,
    errorCode: ReplyErrorCode,
    delayMs: number,
    lost: LostText | null = null,
  ): Promise<{ retry: Dispatch } | { finished: Finished } | null> {
    const reply = await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set((eb) => ({
            lease_token: null,
            lease_until: null,
            failures: eb('failures', '+', 1),
            first_token_at: known('first_token_at', lost?.firstTextMs ?? null),
            output_tokens: outputOf(lost),
            past_attempts: withPastAttempt(
              errorCode,
              known('attempt_first_token_at', lost?.firstTextMs ?? null),
            ),
            available_at: timeIn(delayMs),
            dispatch_count: eb('dispatch_count', '+', 1),
            dispatched_at: timeIn(delayMs),
          }))
          .where(holds(claim))
          .where((eb) => eb(eb('failures', '+', 1), '<', this.attemptBudget))
          .where('deadline_at', '>', timeIn(delayMs))
          .returningAll()
          .executeTakeFirst(),
      { isRepeatable: true },
    );
    if (reply) return { retry: toDispatch(reply, delayMs) };
    const finished = await this.fail(claim, errorCode, lost);
    return finished && { finished };
  }

  /**
   * Gives a claim back unspent: the worker stops, or the attempt did not come to ask the model.
   *
   * @param delayMs pause before the next attempt
   * @param lost its text; null: it had none
   * @returns null where the claim was lost already
   */
  async handBack(claim: Claim, delayMs = 0, lost: LostText | null = null): Promise<Dispatch | null> {
    const reply = await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set((eb) => ({
            lease_token: null,
            lease_until: null,
            first_token_at: known('first_token_at', lost?.firstTextMs ?? null),
            output_tokens: outputOf(lost),
            past_attempts: withPastAttempt(
              LostReason.WorkerStopped,
              known('attempt_first_token_at', lost?.firstTextMs ?? null),
            ),
            available_at: timeIn(delayMs),
            dispatch_count: eb('dispatch_count', '+', 1),
            dispatched_at: timeIn(delayMs),
          }))
          .where(holds(claim))
          .returningAll()
          .executeTakeFirst(),
      { isRepeatable: true },
    );
    return reply ? toDispatch(reply, delayMs) : null;
  }
}
