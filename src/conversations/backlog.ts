import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import type { Gauge } from 'prom-client';
import { type Expression, type InferResult, sql, type SqlBool } from 'kysely';
import { Database } from '../database/database.js';
import type { Db } from '../database/tables.js';
import { Metrics } from '../metrics/metrics.js';
import { ScrapeSource } from '../metrics/scrape-source.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import type { QueueDepth } from '../queue/gated-queue.js';
import { ReplyQueue } from './reply-queue.js';

/** By `replies_unfinished_index`, which holds few rows whatever the table has grown to. */
const countUnfinished = (db: Db) =>
  db
    .selectFrom('replies')
    .where('finished_at', 'is', null)
    .select((eb) => {
      const now = sql<string>`statement_timestamp()`;
      const isUnclaimed = eb('lease_token', 'is', null);
      const isDue = eb.and([isUnclaimed, eb('available_at', '<=', now)]);
      const count = (which: Expression<SqlBool>) =>
        eb.cast<number>(eb.fn.countAll().filterWhere(which), 'integer');
      const oldestDue = eb.fn.min('available_at').filterWhere(isDue);
      return [
        count(isDue).as('due'),
        count(eb('lease_token', 'is not', null)).as('held'),
        count(eb.and([isUnclaimed, eb('available_at', '>', now)])).as('delayed'),
        count(eb('available_at', 'is', null)).as('behind'),
        sql<number>`coalesce(extract(epoch from ${now} - ${oldestDue}), 0)::float8`.as('oldest_due_seconds'),
      ];
    });

type Unfinished = InferResult<ReturnType<typeof countUnfinished>>[number];

/**
 * Measures what waits: in the rows, which are the truth, and in the queue. It is of the whole installation, so
 * every process that is scraped gives the same.
 */
@Injectable()
export class Backlog implements OnModuleInit {
  private readonly repliesUnfinished: Gauge<'state'>;
  private readonly oldestDueAge: Gauge;
  private readonly queueJobs: Gauge<'state'>;
  private readonly workers: Gauge;

  constructor(
    private readonly database: Database,
    private readonly queue: ReplyQueue,
    private readonly metrics: Metrics,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'scrapeTimeoutMs' | 'scrapeFreshMs'>,
  ) {
    this.repliesUnfinished = metrics.gauge({
      name: 'assistly_replies_unfinished',
      help: 'Replies that are not final, from the rows. due: a worker may take it; held: a worker has it; delayed: pauses before its next attempt; behind: waits for an earlier reply of its session.',
      labelNames: ['state'],
    });
    this.oldestDueAge = metrics.gauge({
      name: 'assistly_reply_oldest_due_age_seconds',
      help: 'For how long the oldest due reply could have been taken, by PostgreSQL’s clock; 0: there is none.',
    });
    this.queueJobs = metrics.gauge({
      name: 'assistly_queue_jobs',
      help: 'BullMQ’s jobs that are waiting, active or delayed. A job only names a reply for a worker to claim; how many replies wait is counted in the rows.',
      labelNames: ['state'],
    });
    this.workers = metrics.gauge({
      name: 'assistly_workers',
      help: 'Workers connected to the queue, as its store tells; absent where it does not tell.',
    });
  }

  onModuleInit(): void {
    const { metrics, timings } = this;
    metrics.addSource(
      'rows',
      new ScrapeSource(
        () => this.database.readOnce((db) => countUnfinished(db).executeTakeFirstOrThrow()),
        (rows) => this.showRows(rows),
        timings,
      ),
    );
    metrics.addSource(
      'queue',
      new ScrapeSource(
        () => this.queue.depth(),
        (depth) => this.showQueue(depth),
        timings,
      ),
    );
  }

  private showRows(rows: Unfinished | null): void {
    const { repliesUnfinished, oldestDueAge } = this;
    if (!rows) {
      repliesUnfinished.reset();
      oldestDueAge.remove();
      return;
    }
    for (const state of ['due', 'held', 'delayed', 'behind'] as const)
      repliesUnfinished.set({ state }, rows[state]);
    oldestDueAge.set(rows.oldest_due_seconds);
  }

  private showQueue(depth: QueueDepth | null): void {
    const { queueJobs, workers } = this;
    if (!depth) queueJobs.reset();
    for (const [state, count] of Object.entries(depth?.jobs ?? {})) queueJobs.set({ state }, count);
    if (depth?.workers == null) workers.remove();
    else workers.set(depth.workers);
  }
}
