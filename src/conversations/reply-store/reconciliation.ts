import { Inject, Injectable } from '@nestjs/common';
import { type Expression, sql, type SqlBool } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import { attemptBudget, type Config } from '../../config/env.js';
import { Database, now, runOn } from '../../database/database.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import type { Row } from '../../database/tables.js';
import { LostReason, ReplyErrorCode } from '../reply-status.js';
import {
  aReply,
  type Dispatch,
  failing,
  type Finished,
  milliseconds,
  ReplyTransitions,
  timeIn,
  toDispatch,
  withPastAttempt,
} from './transitions.js';

/** How many rows one round takes of each kind: the next round takes the next. */
export const RECONCILE_LIMIT = 100;
/** `pg_try_advisory_xact_lock` key of the reconciler: the ASCII codes of "rply". */
const RECONCILE_LOCK_KEY = 0x72706c79;

/** The newest attempt of a reply, and the worker that made it. */
interface Held {
  attempt: number;
  worker: string | null;
}

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
   * Repairs what was interrupted: expired leases, due replies whose job was lost, replies past their
   * deadline. One process at a time; null where another one is at it.
   */
  async reconcile(): Promise<{
    /** Replies whose lease ran out, as they are now: another attempt comes of each that is not among `finished`. */
    lost: Row<'replies'>[];
    /** Each with the attempt before it and who held that; 0 and null: none was. */
    dispatches: (Dispatch & Held)[];
    finished: Finished[];
    /** Cancels that were accepted and not carried out. */
    cancels: ({ sessionId: string; replyId: string; requestId: string | null } & Held)[];
  } | null> {
    const found = await this.database.transaction(async (tx) => {
      const [lock] = await runOn(
        tx,
        sql<{ is_mine: boolean }>`select pg_try_advisory_xact_lock(${RECONCILE_LOCK_KEY}) as is_mine`,
      );
      if (!lock?.is_mine) return null;
      const lost = await tx
        .updateTable('replies')
        .set((eb) => ({
          lease_token: null,
          lease_until: null,
          failures: eb('failures', '+', 1),
          past_attempts: withPastAttempt(LostReason.WorkerLost),
          // At most, of what it had written: no more is known.
          output_tokens: sql<number | null>`coalesce(octet_length(partial_text), output_tokens)`,
          available_at: now,
          dispatched_at: null,
        }))
        .where('id', 'in', (eb) =>
          eb
            .selectFrom('replies')
            .select('id')
            .where('finished_at', 'is', null)
            .where('lease_until', '<', now)
            .limit(RECONCILE_LIMIT)
            .forUpdate()
            .skipLocked(),
        )
        .returningAll()
        .execute();
      const due = await tx
        .updateTable('replies')
        .set((eb) => ({ dispatch_count: eb('dispatch_count', '+', 1), dispatched_at: now }))
        .where('id', 'in', (eb) =>
          eb
            .selectFrom('replies')
            .select('id')
            .where('finished_at', 'is', null)
            .where('lease_token', 'is', null)
            .where('cancel_requested_at', 'is', null)
            .where('available_at', '<=', now)
            .where(aReply.not(this.isSpent()))
            .where(this.hasWaitedForWorker())
            .orderBy('available_at')
            .limit(RECONCILE_LIMIT)
            .forUpdate()
            .skipLocked(),
        )
        .returningAll()
        .execute();
      const spent = await tx
        .selectFrom('replies')
        .select(['id', 'chat_session_id'])
        .where(this.isSpent())
        .limit(RECONCILE_LIMIT)
        .execute();
      const cancels = await tx
        .selectFrom('replies')
        .select([
          'chat_session_id as sessionId',
          'id as replyId',
          'request_id as requestId',
          'attempt',
          'claimed_by as worker',
        ])
        .where('finished_at', 'is', null)
        .where('cancel_requested_at', '<', timeIn(-this.timings.cancelAfterMs))
        .limit(RECONCILE_LIMIT)
        .execute();
      return { lost, due, spent, cancels };
    });
    if (found === null) return null;
    const finished: Finished[] = [];
    for (const { id, chat_session_id } of found.spent) {
      const end = await this.giveUp(chat_session_id, id);
      if (end) finished.push(end);
    }
    return {
      lost: found.lost,
      dispatches: found.due.map((reply) => ({
        ...toDispatch(reply, 0),
        attempt: reply.attempt,
        worker: reply.claimed_by,
      })),
      finished,
      cancels: found.cancels,
    };
  }

  /**
   * Fails a reply whose time is spent, whoever holds it, or whose workers were lost too often.
   *
   * @returns null where it is final already
   */
  private async giveUp(sessionId: string, replyId: string): Promise<Finished | null> {
    const errorCode = aReply
      .case()
      .when('deadline_at', '<=', now)
      .then(ReplyErrorCode.Expired)
      .else(ReplyErrorCode.Internal)
      .end();
    return this.transitions.finish(
      sessionId,
      replyId,
      null,
      failing(aReply.and([aReply('id', '=', replyId), this.isSpent()]), errorCode),
    );
  }

  private isSpent(): Expression<SqlBool> {
    return aReply.and([
      aReply('finished_at', 'is', null),
      aReply.or([
        aReply('deadline_at', '<=', now),
        aReply.and([aReply('lease_token', 'is', null), aReply('failures', '>=', this.attemptBudget)]),
      ]),
    ]);
  }

  /** No job was enqueued, or none came of it for a while that doubles with each, up to a minute. */
  private hasWaitedForWorker(): Expression<SqlBool> {
    return aReply.or([
      aReply('dispatched_at', 'is', null),
      aReply(
        'dispatched_at',
        '<',
        sql<string>`${now} - least(interval '1 minute', ${milliseconds(this.timings.redispatchAfterMs)}
          * power(2, least(greatest(${aReply.ref('dispatch_count')} - ${aReply.ref('attempt')}, 1), 10) - 1))`,
      ),
    ]);
  }
}
