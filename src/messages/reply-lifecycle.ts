import { Inject, Injectable } from '@nestjs/common';
import type { SqlEntityManager } from '@mikro-orm/postgresql';
import { sql, type RawBuilder } from 'kysely';
import { isUniqueViolation } from '../common/database-errors.js';
import { newId } from '../common/columns.js';
import { AppError, notFound } from '../common/app-error.js';
import { tokensAtMost } from '../common/tokens-at-most.js';
import { CONFIG } from '../config/config.module.js';
import { attemptBudget, type Config } from '../config/env.js';
import { Database, runOn } from '../database/database.js';
import { type IdempotentRequest, once } from '../limits/idempotency.js';
import { ReplyMetrics } from '../metrics/reply-metrics.js';
import { messageColumns, type MessageRow, timeOfNewest } from './message.dto.js';
import { replyColumns, type ReplyRow } from './reply.dto.js';
import { FINAL_STATUSES, ReplyErrorCode, type ReplyFinishReason, ReplyStatus } from './reply-status.js';

/**
 * Every statement that changes a reply, and nothing else. The invariants:
 *
 * - A reply is claimed with a fresh `lease_token`, and every write of that claim carries it in its WHERE (the
 *   fence). No row back means that the claim is lost: whoever wrote must stop.
 * - Once claimed, a reply stays `in_progress` until it is final, between its attempts without a lease, so that
 *   its successor can neither overtake it nor collide with it.
 * - A final reply never changes again.
 * - A transaction that touches both locks the session first, then the reply.
 * - All times are PostgreSQL's: the clocks of processes differ.
 */

/** How long a claim lives without a heartbeat. */
export const LEASE_MS = 20_000;
/** How often a worker renews its claim. */
export const HEARTBEAT_INTERVAL_MS = 5_000;
/** A due reply is rung for again when nobody claimed it for so long; doubled for each bell in vain, up to a minute. */
const REDISPATCH_AFTER_MS = 8_000;
/** A finished reply whose end nobody has told for so long is told by the sweeper. */
const ANNOUNCE_AFTER_MS = 3_000;
/** A cancel that was accepted and not carried out for so long is carried out by the sweeper. */
const CANCEL_AFTER_MS = 3_000;
/** How many rows one sweep takes of each kind: the next sweep takes the next. */
const SWEEP_LIMIT = 100;
/** `pg_try_advisory_xact_lock` key of the sweep: the ASCII codes of "rply". */
const SWEEP_LOCK_KEY = 0x72706c79;

/** The right to write for one attempt of a reply. */
export interface Claim {
  replyId: string;
  sessionId: string;
  attempt: number;
  leaseToken: string;
}

/** The queue has to be rung: the reply's nth job, not to be worked on before `delayMs` have passed. */
export interface Dispatch {
  replyId: string;
  sessionId: string;
  number: number;
  delayMs: number;
  requestId: string | null;
}

export interface Usage {
  inputTokens: number;
  outputTokens: number;
  isEstimated: boolean;
}

/** A final reply with its AI message where it has one, and the successor that may go now. */
export interface Finished {
  reply: ReplyRow;
  message: MessageRow | null;
  next: Dispatch | null;
}

/** What a request made, or, for a repetition with the same idempotency key, what the first one made. */
export interface Retried {
  reply: ReplyRow;
  /** Null where there is no bell to ring: it was rung already, or an earlier reply is unfinished. */
  dispatch: Dispatch | null;
  /** From which the events of the request follow. */
  cursor: string;
  isReplay: boolean;
}

export interface Posted extends Retried {
  message: MessageRow;
}

const ms = (milliseconds: number): RawBuilder<unknown> => sql`(${milliseconds} * interval '1 millisecond')`;

@Injectable()
export class ReplyLifecycle {
  private readonly attemptBudget: number;

  constructor(
    private readonly database: Database,
    @Inject(CONFIG)
    private readonly config: Pick<Config, 'REPLY_ATTEMPTS' | 'OPENAI_FALLBACK_MODEL' | 'REPLY_MAX_AGE_MS'>,
    private readonly metrics: ReplyMetrics,
  ) {
    metrics.expect(FINAL_STATUSES, Object.values(ReplyErrorCode));
    this.attemptBudget = attemptBudget(config);
  }

  /**
   * Stores a user message and the reply that will answer it: the session's queued one, or a new one.
   *
   * @param cursor where the session's events stood before, kept for a repetition of the request
   * @throws AppError not_found where the session is gone; the idempotency errors
   */
  async post(
    sessionId: string,
    content: string,
    requestId: string,
    idempotent: IdempotentRequest | null,
    cursor: string,
  ): Promise<Posted> {
    return this.database.transaction(async (em) => {
      let dispatch: Dispatch | null = null;
      const { result, isReplay } = await once(em, idempotent, async () => {
        const sequence = await this.nextSequence(em, sessionId);
        if (sequence === null) throw notFound();
        // Locked, so that a claim waits until this message is committed, or has happened before it.
        const unfinished = await this.lockUnfinished(em, sessionId);
        const queued = unfinished.find(({ status }) => status === ReplyStatus.Queued);
        const replyId = queued?.id ?? newId();
        if (!queued) {
          dispatch = await this.insertReply(
            em,
            { id: replyId, sessionId, requestId },
            unfinished.length === 0,
          );
        }
        const messageId = newId();
        await runOn(
          em,
          sql`
            insert into messages (id, chat_session_id, sequence, sender, content, reply_id, created_at)
            values (${messageId}, ${sessionId}, ${sequence}, 'user', ${content}, ${replyId}, ${timeOfNewest(sessionId)})`,
        );
        return { messageId, replyId, cursor };
      });
      const [message] = await runOn(
        em,
        sql<MessageRow>`select ${messageColumns} from messages where id = ${result.messageId}`,
      );
      const reply = await this.find(em, result.replyId);
      if (!message || !reply) throw notFound();
      return { message, reply, dispatch, cursor: result.cursor, isReplay };
    });
  }

  /**
   * Makes a new reply for the messages of one that failed or was cancelled.
   *
   * @throws AppError not_found, reply_not_retryable; the idempotency errors
   */
  async retry(
    sessionId: string,
    replyId: string,
    requestId: string,
    idempotent: IdempotentRequest | null,
    cursor: string,
  ): Promise<Retried> {
    return this.database.transaction(async (em) => {
      let dispatch: Dispatch | null = null;
      const { result, isReplay } = await once(em, idempotent, async () => {
        const [session] = await runOn(
          em,
          sql`select 1 from chat_sessions where id = ${sessionId} for update`,
        );
        if (!session) throw notFound();
        const [latest] = await runOn(
          em,
          sql<{ id: string; status: ReplyStatus }>`
            select id, status from replies where chat_session_id = ${sessionId}
            order by created_at desc, id desc limit 1`,
        );
        const isRetryable = latest?.status === ReplyStatus.Failed || latest?.status === ReplyStatus.Cancelled;
        if (latest?.id !== replyId || !isRetryable) {
          throw new AppError(
            'reply_not_retryable',
            'Only the latest reply of a session can be retried, once it has failed or was cancelled.',
          );
        }
        const unfinished = await this.lockUnfinished(em, sessionId);
        const id = newId();
        dispatch = await this.insertReply(
          em,
          { id, sessionId, requestId, retryOf: replyId },
          unfinished.length === 0,
        );
        await runOn(
          em,
          sql`update messages set reply_id = ${id} where reply_id = ${replyId} and sender = 'user'`,
        );
        return { replyId: id, cursor };
      });
      const reply = await this.find(em, result.replyId);
      if (!reply) throw notFound();
      return { reply, dispatch, cursor: result.cursor, isReplay };
    });
  }

  private async lockUnfinished(
    em: SqlEntityManager,
    sessionId: string,
  ): Promise<{ id: string; status: ReplyStatus }[]> {
    return runOn(
      em,
      sql<{ id: string; status: ReplyStatus }>`
        select id, status from replies
        where chat_session_id = ${sessionId} and status in ('queued', 'in_progress')
        for update`,
    );
  }

  private async find(em: SqlEntityManager, replyId: string): Promise<ReplyRow | undefined> {
    const [reply] = await runOn(em, sql<ReplyRow>`select ${replyColumns} from replies where id = ${replyId}`);
    return reply;
  }

  /** Locks the session and counts one message more; null where the session is gone. */
  private async nextSequence(em: SqlEntityManager, sessionId: string): Promise<number | null> {
    const [session] = await runOn(
      em,
      sql<{ message_count: number }>`
        update chat_sessions
        set message_count = message_count + 1, last_message_at = clock_timestamp(), active_at = clock_timestamp()
        where id = ${sessionId}
        returning message_count`,
    );
    return session?.message_count ?? null;
  }

  /**
   * @param isFirst no unfinished reply precedes it, so it may go, and its age counts, from now
   * @returns the bell to ring; null where whoever finishes the reply before it will ring
   */
  private async insertReply(
    em: SqlEntityManager,
    {
      id,
      sessionId,
      requestId,
      retryOf = null,
    }: { id: string; sessionId: string; requestId: string; retryOf?: string | null },
    isFirst: boolean,
  ): Promise<Dispatch | null> {
    const now = sql`clock_timestamp()`;
    const [reply] = await runOn(
      em,
      sql<ReplyRow>`
        insert into replies
          (id, chat_session_id, request_id, retry_of_id, available_at, deadline_at, dispatch_count, dispatched_at)
        values (${id}, ${sessionId}, ${requestId}, ${retryOf}::uuid,
          ${isFirst ? now : null}, ${isFirst ? sql`${now} + ${ms(this.config.REPLY_MAX_AGE_MS)}` : null},
          ${isFirst ? 1 : 0}, ${isFirst ? now : null})
        returning ${replyColumns}`,
    );
    return isFirst ? toDispatch(reply!, 0) : null;
  }

  /**
   * Takes a due reply for one attempt; null where there is nothing to do: it is final, gone, not due yet, or
   * somebody else's. A lease that has run out is the sweeper's to clear, since that is charged as a failure.
   */
  async claim(replyId: string): Promise<{ claim: Claim; reply: ReplyRow } | null> {
    try {
      const [row] = await this.database.run(
        sql<ReplyRow & { lease_token: string }>`
          update replies
          set status = 'in_progress', attempt = attempt + 1, lease_token = gen_random_uuid(),
            lease_until = clock_timestamp() + ${ms(LEASE_MS)}, partial_text = null,
            started_at = coalesce(started_at, clock_timestamp())
          where id = ${replyId} and status in ('queued', 'in_progress') and lease_token is null
            and cancel_requested_at is null
            and available_at <= clock_timestamp() + interval '1 millisecond' -- stored times are rounded
            and deadline_at > clock_timestamp() and failures < ${this.attemptBudget}
          returning ${replyColumns}, replies.lease_token`,
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

  /**
   * For a job that came before its time, since the queue's clock is not PostgreSQL's: another one for the rest of
   * the pause. Null where the reply is due, claimed or final, or where a later job was rung for it.
   */
  async postpone(replyId: string, dispatchNumber: number): Promise<Dispatch | null> {
    const [row] = await this.database.runSafely(
      sql<ReplyRow & { delay_ms: number }>`
        update replies
        set dispatch_count = dispatch_count + 1, dispatched_at = available_at
        where id = ${replyId} and dispatch_count = ${dispatchNumber} and finished_at is null
          and lease_token is null and available_at > clock_timestamp()
        returning ${replyColumns},
          ceil(extract(epoch from available_at - clock_timestamp()) * 1000)::int as delay_ms`,
    );
    return row ? toDispatch(row, Math.max(1, row.delay_ms)) : null;
  }

  /** An operator wants the next attempt now: ends the pause before it, where there is one. */
  async endPause(replyId: string): Promise<void> {
    await this.database.runSafely(sql`
      update replies set available_at = clock_timestamp(), dispatched_at = clock_timestamp()
      where id = ${replyId} and finished_at is null and lease_token is null
        and available_at > clock_timestamp()`);
  }

  /** Extends the lease. @returns whether the claim still holds, and nobody wants the reply cancelled */
  async heartbeat(claim: Claim): Promise<boolean> {
    const rows = await this.database.runSafely(
      sql`
        update replies set lease_until = clock_timestamp() + ${ms(LEASE_MS)}
        where ${holds(claim)} and cancel_requested_at is null
        returning id`,
    );
    return rows.length === 1;
  }

  /** Notes what is about to be asked, before it is. @returns whether the claim still holds */
  async beginCall(claim: Claim, model: string, estimatedInputTokens: number): Promise<boolean> {
    return this.fenced(
      claim,
      sql`model = ${model}, input_tokens = ${estimatedInputTokens}, output_tokens = null, is_usage_estimated = true`,
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
    const rows = await this.database.runSafely(
      sql<{ id: string }>`update replies set ${assignments} where ${holds(claim)} returning id`,
    );
    return rows.length === 1;
  }

  /**
   * Completes a reply: the AI message, the final state and the usage in one transaction.
   *
   * @returns null where the claim is lost: the text is to be dropped
   */
  async complete(
    claim: Claim,
    answer: { text: string; finishReason: ReplyFinishReason; usage: Usage },
  ): Promise<Finished | null> {
    return this.finish(
      claim.sessionId,
      claim.replyId,
      answer.text,
      () =>
        sql<ReplyRow>`
        update replies
        set status = 'completed', finished_at = clock_timestamp(), lease_token = null, lease_until = null,
          first_token_at = coalesce(first_token_at, clock_timestamp()), finish_reason = ${answer.finishReason},
          input_tokens = ${answer.usage.inputTokens}, output_tokens = ${answer.usage.outputTokens},
          is_usage_estimated = ${answer.usage.isEstimated}, partial_text = null
        where ${holds(claim)}
        returning ${replyColumns}`,
    );
  }

  /** Fails a reply for good. @returns null where the claim is lost */
  async fail(claim: Claim, errorCode: ReplyErrorCode): Promise<Finished | null> {
    return this.finish(claim.sessionId, claim.replyId, null, () =>
      this.failing(holds(claim), sql`${errorCode}`),
    );
  }

  /**
   * Fails a reply whose time is spent, whoever holds it, or whose workers were lost too often.
   *
   * @returns null where it is final already
   */
  private async giveUp(sessionId: string, replyId: string): Promise<Finished | null> {
    return this.finish(sessionId, replyId, null, () =>
      this.failing(
        sql`id = ${replyId} and ${this.isSpent()}`,
        sql`case when deadline_at <= clock_timestamp() then 'expired' else 'internal' end`,
      ),
    );
  }

  private isSpent(): RawBuilder<unknown> {
    return sql`finished_at is null and (deadline_at <= clock_timestamp()
      or (lease_token is null and failures >= ${this.attemptBudget}))`;
  }

  private failing(where: RawBuilder<unknown>, errorCode: RawBuilder<unknown>): RawBuilder<ReplyRow> {
    return sql<ReplyRow>`
      update replies
      set status = 'failed', error_code = ${errorCode}, finished_at = clock_timestamp(),
        lease_token = null, lease_until = null, partial_text = null
      where ${where}
      returning ${replyColumns}`;
  }

  /**
   * Notes that an unfinished reply is to be cancelled. From here on nobody claims it, its worker stops at the next
   * heartbeat at the latest, and the sweeper cancels it should the caller not come to it.
   *
   * @returns the reply, whose checkpoint is the text that is known to the rows; null where it is final or gone
   */
  async requestCancel(replyId: string): Promise<ReplyRow | null> {
    const [row] = await this.database.runSafely(
      sql<ReplyRow>`
        update replies set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
        where id = ${replyId} and finished_at is null
        returning ${replyColumns}`,
    );
    return row ?? null;
  }

  /**
   * Cancels a reply, whoever holds it. The count of its output is an upper bound, marked as estimated: it is mostly
   * an api that cancels, which has no tokenizer.
   *
   * @param text becomes the AI message; null: there is none
   * @param isSealed whether that is all that was and will be shown. Otherwise more may have been; the text counts as
   *   an attempt of its own then, so that watchers drop what they hold and get it whole
   * @returns null where it is final already
   */
  async cancel(
    sessionId: string,
    replyId: string,
    text: string | null,
    isSealed = true,
  ): Promise<Finished | null> {
    return this.finish(
      sessionId,
      replyId,
      text,
      () =>
        sql<ReplyRow>`
        update replies
        set status = 'cancelled', finish_reason = 'cancelled', finished_at = clock_timestamp(),
          attempt = attempt + case when attempt > 0 and ${!isSealed}::boolean then 1 else 0 end,
          lease_token = null, lease_until = null, partial_text = null, is_usage_estimated = input_tokens is not null,
          output_tokens = case when input_tokens is not null then ${text === null ? 0 : tokensAtMost(text)}::int end
        where id = ${replyId} and finished_at is null
        returning ${replyColumns}`,
    );
  }

  /** Every end of a reply: under the session's lock, with its message, and its successor let go. */
  private async finish(
    sessionId: string,
    replyId: string,
    text: string | null,
    transition: () => RawBuilder<ReplyRow>,
  ): Promise<Finished | null> {
    const finished = await this.database.safeTransaction<Finished | null>(async (em) => {
      await runOn(em, sql`select 1 from chat_sessions where id = ${sessionId} for update`);
      const [reply] = await runOn(em, transition());
      if (reply === undefined) return null;
      let message: MessageRow | null = null;
      if (text !== null) {
        const sequence = await this.nextSequence(em, sessionId);
        [message = null] = await runOn(
          em,
          sql<MessageRow>`
            insert into messages (id, chat_session_id, sequence, sender, content, reply_id, created_at)
            values (${newId()}, ${sessionId}, ${sequence}, 'ai', ${text}, ${replyId}, ${timeOfNewest(sessionId)})
            returning ${messageColumns}`,
        );
      }
      const [successor] = await runOn(
        em,
        sql<ReplyRow>`
          update replies
          set available_at = clock_timestamp(), deadline_at = clock_timestamp() + ${ms(this.config.REPLY_MAX_AGE_MS)},
            dispatch_count = dispatch_count + 1, dispatched_at = clock_timestamp()
          where chat_session_id = ${sessionId} and status = 'queued' and available_at is null
          returning ${replyColumns}`,
      );
      return {
        reply: { ...reply, message_id: message?.id ?? null },
        message,
        next: successor ? toDispatch(successor, 0) : null,
      };
    });
    if (finished) this.metrics.finished(finished.reply);
    return finished;
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
    const [row] = await this.database.runSafely(
      sql<ReplyRow>`
        update replies
        set lease_token = null, lease_until = null, failures = failures + 1,
          available_at = clock_timestamp() + ${ms(delayMs)},
          dispatch_count = dispatch_count + 1, dispatched_at = clock_timestamp() + ${ms(delayMs)}
        where ${holds(claim)} and failures + 1 < ${this.attemptBudget}
          and clock_timestamp() + ${ms(delayMs)} < deadline_at
        returning ${replyColumns}`,
    );
    if (row) return { retry: toDispatch(row, delayMs) };
    const finished = await this.fail(claim, errorCode);
    return finished && { finished };
  }

  /** Gives a claim back unspent: the worker stops. @returns null where the claim was lost already */
  async handBack(claim: Claim): Promise<Dispatch | null> {
    const [row] = await this.database.runSafely(
      sql<ReplyRow>`
        update replies
        set lease_token = null, lease_until = null, available_at = clock_timestamp(),
          dispatch_count = dispatch_count + 1, dispatched_at = clock_timestamp()
        where ${holds(claim)}
        returning ${replyColumns}`,
    );
    return row ? toDispatch(row, 0) : null;
  }

  /** The queue did not take the bell: the next sweep rings again instead of waiting for an answer to it. */
  async markUndispatched(dispatch: Dispatch): Promise<void> {
    await this.database.runSafely(sql`
      update replies set dispatched_at = null
      where id = ${dispatch.replyId} and dispatch_count = ${dispatch.number} and lease_token is null
        and finished_at is null`);
  }

  /** The messages that a reply answers, oldest first. */
  async questionOf(replyId: string): Promise<MessageRow[]> {
    return this.database.runSafely(
      sql<MessageRow>`
        select ${messageColumns} from messages where reply_id = ${replyId} and sender = 'user' order by sequence`,
    );
  }

  /** Notes that the end of these replies stands in the event stream. */
  async markAnnounced(replyId: string): Promise<void> {
    await this.database.runSafely(
      sql`update replies set announced_at = clock_timestamp() where id = ${replyId} and finished_at is not null`,
    );
  }

  /**
   * Puts right what fell between: leases that ran out, due replies whose bell was lost, replies past their
   * deadline. One process at a time; null where another one is at it.
   */
  async sweep(): Promise<{
    dispatches: Dispatch[];
    finished: Finished[];
    /** Cancels that were accepted and not carried out. */
    cancels: { sessionId: string; replyId: string }[];
  } | null> {
    const found = await this.database.transaction(async (em) => {
      const [lock] = await runOn(
        em,
        sql<{ is_mine: boolean }>`select pg_try_advisory_xact_lock(${SWEEP_LOCK_KEY}) as is_mine`,
      );
      if (!lock?.is_mine) return null;
      await runOn(
        em,
        sql`
          update replies
          set lease_token = null, lease_until = null, failures = failures + 1, available_at = clock_timestamp(),
            dispatched_at = null
          where id in (
            select id from replies
            where finished_at is null and lease_until < clock_timestamp()
            limit ${SWEEP_LIMIT} for update skip locked)`,
      );
      const due = await runOn(
        em,
        sql<ReplyRow>`
          update replies
          set dispatch_count = dispatch_count + 1, dispatched_at = clock_timestamp()
          where id in (
            select id from replies
            where finished_at is null and lease_token is null and cancel_requested_at is null
              and available_at <= clock_timestamp() and not (${this.isSpent()})
              and (dispatched_at is null or dispatched_at < clock_timestamp()
                - least(interval '1 minute', ${ms(REDISPATCH_AFTER_MS)} * power(2, least(greatest(dispatch_count - attempt, 1), 10) - 1)))
            order by available_at
            limit ${SWEEP_LIMIT} for update skip locked)
          returning ${replyColumns}`,
      );
      const spent = await runOn(
        em,
        sql<{ id: string; chat_session_id: string }>`
          select id, chat_session_id from replies
          where ${this.isSpent()}
          limit ${SWEEP_LIMIT}`,
      );
      const cancels = await runOn(
        em,
        sql<{ sessionId: string; replyId: string }>`
          select chat_session_id as "sessionId", id as "replyId" from replies
          where finished_at is null and cancel_requested_at < clock_timestamp() - ${ms(CANCEL_AFTER_MS)}
          limit ${SWEEP_LIMIT}`,
      );
      return { due, spent, cancels };
    });
    if (found === null) return null;
    const finished: Finished[] = [];
    for (const { id, chat_session_id } of found.spent) {
      const end = await this.giveUp(chat_session_id, id);
      if (end) finished.push(end);
    }
    return { dispatches: found.due.map((reply) => toDispatch(reply, 0)), finished, cancels: found.cancels };
  }

  /** Finished replies whose end nobody has told, oldest first. */
  async findUnannounced(): Promise<{ reply: ReplyRow; message: MessageRow | null }[]> {
    const replies = await this.database.run(
      sql<ReplyRow>`
        select ${replyColumns} from replies
        where finished_at is not null and announced_at is null
          and finished_at < clock_timestamp() - ${ms(ANNOUNCE_AFTER_MS)}
        order by finished_at
        limit ${SWEEP_LIMIT}`,
    );
    if (replies.length === 0) return [];
    const messages = await this.database.run(
      sql<MessageRow>`
        select ${messageColumns} from messages
        where sender = 'ai' and reply_id in (${sql.join(replies.map((reply) => reply.id))})`,
    );
    return replies.map((reply) => ({
      reply,
      message: messages.find((message) => message.reply_id === reply.id) ?? null,
    }));
  }
}

/** The fence. */
const holds = (claim: Claim): RawBuilder<unknown> =>
  sql`id = ${claim.replyId} and lease_token = ${claim.leaseToken} and status = 'in_progress'`;

const toDispatch = (reply: ReplyRow, delayMs: number): Dispatch => ({
  replyId: reply.id,
  sessionId: reply.chat_session_id,
  number: reply.dispatch_count,
  delayMs,
  requestId: reply.request_id,
});
