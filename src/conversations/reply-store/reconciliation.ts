import { Inject, Injectable } from '@nestjs/common';
import { sql, type RawBuilder } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import { attemptBudget, type Config } from '../../config/env.js';
import { Database, runOn } from '../../database/database.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import { replyColumns, type ReplyRow } from '../reply.dto.js';
import {
  type Dispatch,
  failing,
  type Finished,
  milliseconds,
  ReplyTransitions,
  toDispatch,
} from './transitions.js';

/** How many rows one round takes of each kind: the next round takes the next. */
export const RECONCILE_LIMIT = 100;
/** `pg_try_advisory_xact_lock` key of the reconciler: the ASCII codes of "rply". */
const RECONCILE_LOCK_KEY = 0x72706c79;

/** What the reconciler finds in the rows, and puts right in them. */
@Injectable()
export class ReplyReconciliation {
  private readonly attemptBudget: number;

  constructor(
    private readonly database: Database,
    @Inject(CONFIG) config: Pick<Config, 'REPLY_ATTEMPTS' | 'OPENAI_FALLBACK_MODEL'>,
    private readonly transitions: ReplyTransitions,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'redispatchAfterMs' | 'cancelAfterMs'>,
  ) {
    this.attemptBudget = attemptBudget(config);
  }

  /**
   * Puts right what fell between: leases that ran out, due replies whose bell was lost, replies past their
   * deadline. One process at a time; null where another one is at it.
   */
  async reconcile(): Promise<{
    dispatches: Dispatch[];
    finished: Finished[];
    /** Cancels that were accepted and not carried out. */
    cancels: { sessionId: string; replyId: string }[];
  } | null> {
    const found = await this.database.transaction(async (em) => {
      const [lock] = await runOn(
        em,
        sql<{ is_mine: boolean }>`select pg_try_advisory_xact_lock(${RECONCILE_LOCK_KEY}) as is_mine`,
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
            limit ${RECONCILE_LIMIT} for update skip locked)`,
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
                - least(interval '1 minute', ${milliseconds(this.timings.redispatchAfterMs)} * power(2, least(greatest(dispatch_count - attempt, 1), 10) - 1)))
            order by available_at
            limit ${RECONCILE_LIMIT} for update skip locked)
          returning ${replyColumns}`,
      );
      const spent = await runOn(
        em,
        sql<{ id: string; chat_session_id: string }>`
          select id, chat_session_id from replies
          where ${this.isSpent()}
          limit ${RECONCILE_LIMIT}`,
      );
      const cancels = await runOn(
        em,
        sql<{ sessionId: string; replyId: string }>`
          select chat_session_id as "sessionId", id as "replyId" from replies
          where finished_at is null and cancel_requested_at < clock_timestamp() - ${milliseconds(this.timings.cancelAfterMs)}
          limit ${RECONCILE_LIMIT}`,
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

  /**
   * Fails a reply whose time is spent, whoever holds it, or whose workers were lost too often.
   *
   * @returns null where it is final already
   */
  private async giveUp(sessionId: string, replyId: string): Promise<Finished | null> {
    return this.transitions.finish(sessionId, replyId, null, () =>
      failing(
        sql`id = ${replyId} and ${this.isSpent()}`,
        sql`case when deadline_at <= clock_timestamp() then 'expired' else 'internal' end`,
      ),
    );
  }

  private isSpent(): RawBuilder<unknown> {
    return sql`finished_at is null and (deadline_at <= clock_timestamp()
      or (lease_token is null and failures >= ${this.attemptBudget}))`;
  }
}
