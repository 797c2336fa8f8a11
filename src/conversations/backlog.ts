import { Inject, Injectable } from '@nestjs/common';
import { type Expression, type InferResult, sql, type SqlBool } from 'kysely';
import { Database } from '../database/database.js';
import type { Db } from '../database/tables.js';
import { Metrics } from '../metrics/metrics.js';
import { ScrapeSource } from '../metrics/scrape-source.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { type QueueDepth, ReplyQueue } from './reply-queue.js';

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
 * Measures what waits: in the rows, which are the truth, and in the queue. It tells of the whole installation, so
 * every process that is scraped tells the same.
 */
@Injectable()
export class Backlog {
  constructor(
    private readonly database: Database,
    private readonly queue: ReplyQueue,
    private readonly metrics: Metrics,
    @Inject(TIMINGS) timings: Pick<Timings, 'scrapeTimeoutMs' | 'scrapeFreshMs'>,
  ) {
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
    const { repliesUnfinished, oldestDueAge } = this.metrics;
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
    const { queueJobs, workers } = this.metrics;
    if (!depth) queueJobs.reset();
    for (const [state, count] of Object.entries(depth?.jobs ?? {})) queueJobs.set({ state }, count);
    if (depth?.workers == null) workers.remove();
    else workers.set(depth.workers);
  }
}
