import { Inject, Injectable } from '@nestjs/common';
import { sql, type RawBuilder } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import { attemptBudget, type Config } from '../../config/env.js';
import { isUniqueViolation } from '../../database/database-errors.js';
import { Database, runOn } from '../../database/database.js';
import { PROCESS_NAME } from '../../runtime/process-name.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import { LostReason, type ReplyErrorCode, type ReplyFinishReason } from '../reply-status.js';
import { replyRow, type ReplyRow } from '../reply.dto.js';
import {
  type Claim,
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

export interface Usage {
  inputTokens: number;
  outputTokens: number;
  isEstimated: boolean;
}

/** How many of a chatbot's characteristics a prompt held, and of how many. */
export interface CharacteristicsUsed {
  used: number;
  of: number;
}

/** @param usage null: no model was asked in this attempt, whatever an earlier one had noted */
const usageOf = (usage: Usage | null): RawBuilder<unknown> =>
  usage
    ? sql`input_tokens = ${usage.inputTokens}, output_tokens = ${usage.outputTokens}, is_usage_estimated = ${usage.isEstimated}`
    : sql`input_tokens = null, output_tokens = null, is_usage_estimated = false, model = null,
        characteristics_used = null, characteristics_of = null`;

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
      sql`model = ${model}, input_tokens = ${estimatedInputTokens}, output_tokens = null, is_usage_estimated = true,
        characteristics_used = ${characteristics.used}, characteristics_of = ${characteristics.of}`,
    );
  }

  /** Keeps the text so far, for the case that the event stream is lost. @returns whether the claim still holds */
  async checkpoint(claim: Claim, text: string): Promise<boolean> {
    return this.fenced(
      claim,
      sql`partial_text = ${text}, first_token_at = coalesce(first_token_at, clock_timestamp())`,
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
   * Completes a reply: the AI message, the final state and the usage in one transaction.
   *
   * @param answer its usage null: no model was asked
   * @returns null where the claim is lost: the text is to be dropped
   */
  async complete(
    claim: Claim,
    answer: { text: string; finishReason: ReplyFinishReason; usage: Usage | null },
  ): Promise<Finished | null> {
    return this.transitions.finish(claim.sessionId, claim.replyId, answer.text, async (tx) => {
      const [reply] = await runOn(
        tx,
        sql<ReplyRow>`
        update replies
        set status = 'completed', finished_at = clock_timestamp(), lease_token = null, lease_until = null,
          first_token_at = coalesce(first_token_at, clock_timestamp()), finish_reason = ${answer.finishReason},
          partial_text = null, ${usageOf(answer.usage)}
        where ${holds(claim)}
        returning ${replyRow}`,
      );
      return reply;
    });
  }

  /** Fails a reply for good. @returns null where the claim is lost */
  async fail(claim: Claim, errorCode: ReplyErrorCode): Promise<Finished | null> {
    return this.transitions.finish(claim.sessionId, claim.replyId, null, failing(holds(claim), errorCode));
  }

  /**
   * Ends an attempt after a passing fault, and allows another one after a pause, unless the budget or the time
   * is spent: then the reply fails with the code of this fault.
   */
  async retryLater(
    claim: Claim,
    errorCode: ReplyErrorCode,
    delayMs: number,
  ): Promise<{ retry: Dispatch } | { finished: Finished } | null> {
    const reply = await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set((eb) => ({
            lease_token: null,
            lease_until: null,
            failures: eb('failures', '+', 1),
            past_attempts: withPastAttempt(errorCode),
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
    const finished = await this.fail(claim, errorCode);
    return finished && { finished };
  }

  /**
   * Gives a claim back unspent: the worker stops, or the attempt did not come to ask the model.
   *
   * @param delayMs pause before the next attempt
   * @returns null where the claim was lost already
   */
  async handBack(claim: Claim, delayMs = 0): Promise<Dispatch | null> {
    const reply = await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set((eb) => ({
            lease_token: null,
            lease_until: null,
            past_attempts: withPastAttempt(LostReason.WorkerStopped),
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
