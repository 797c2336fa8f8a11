import { Injectable } from '@nestjs/common';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { ScrapeSource } from './scrape-source.js';

/** From a tenth of a second to REPLY_MAX_AGE_MS' default. */
const REPLY_BUCKETS = [0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600];
const LAG_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15];

/**
 * All that a process measures, on one page. The label sets are closed, and small: models have names that owners
 * choose, so a label says only which of the configured ones it was; no id ever is a label.
 *
 * Counters and histograms are of this process, and are summed. What is read from the stores is the same in every
 * process (take the maximum), and absent while its store does not answer.
 *
 * One registry each: tests run several apps in one process.
 */
@Injectable()
export class Metrics {
  readonly registry = new Registry();
  private readonly registers = [this.registry];

  // --- Replies, counted by whoever commits the last transition: a worker, an api that cancels, a sweeper.

  readonly repliesFinished = new Counter({
    name: 'assistly_replies_finished_total',
    help: 'Replies that became final, by status and, of those that failed, error code. At most once each; not counted where the answer to the commit was lost.',
    labelNames: ['status', 'error_code'],
    registers: this.registers,
  });
  readonly replyDuration = new Histogram({
    name: 'assistly_reply_duration_seconds',
    help: 'From the post to the end of the reply, by PostgreSQL’s clock. What a session has waited for its previous reply is in it.',
    labelNames: ['status'],
    buckets: REPLY_BUCKETS,
    registers: this.registers,
  });
  readonly replyFirstToken = new Histogram({
    name: 'assistly_reply_first_token_seconds',
    help: 'From the post to the first text of the reply, by PostgreSQL’s clock, counted at its end.',
    buckets: REPLY_BUCKETS,
    registers: this.registers,
  });

  // --- The worker's attempts, and its calls of models (model: first, fallback or extractive).

  readonly replyAttempts = new Counter({
    name: 'assistly_reply_attempts_total',
    help: 'Attempts that ended, by outcome: completed, failed, retrying, handed_back, lost.',
    labelNames: ['outcome'],
    registers: this.registers,
  });
  readonly providerCalls = new Counter({
    name: 'assistly_provider_calls_total',
    help: 'Calls of a model that ended, by outcome: answered, aborted (cancelled, or the worker stops), or an error code. Those that a circuit breaker spared are not in it.',
    labelNames: ['model', 'outcome'],
    registers: this.registers,
  });
  readonly providerFirstToken = new Histogram({
    name: 'assistly_provider_first_token_seconds',
    help: 'From the call of a model to its first text.',
    labelNames: ['model'],
    buckets: REPLY_BUCKETS,
    registers: this.registers,
  });
  readonly tokens = new Counter({
    name: 'assistly_tokens_total',
    help: 'Tokens of calls that were answered, as the provider counts them, estimated where it does not.',
    labelNames: ['model', 'direction'],
    registers: this.registers,
  });

  // --- The api's event streams.

  readonly eventStreamsOpen = new Gauge({
    name: 'assistly_event_streams_open',
    help: 'Event streams that clients have open.',
    registers: this.registers,
  });
  readonly eventLag = new Histogram({
    name: 'assistly_event_lag_seconds',
    help: 'From the append of an event to when it was handed to a client’s connection. The append is timed by the store’s clock and compared with it, so processes’ clocks do not matter; exact to the store’s round trip. Without what a client caught up on.',
    buckets: LAG_BUCKETS,
    registers: this.registers,
  });

  // --- What waits, read from the stores.

  readonly repliesUnfinished = new Gauge({
    name: 'assistly_replies_unfinished',
    help: 'Replies that are not final, from the rows. due: a worker may take it; held: a worker has it; delayed: pauses before its next attempt; behind: waits for an earlier reply of its session.',
    labelNames: ['state'],
    registers: this.registers,
  });
  readonly oldestDueAge = new Gauge({
    name: 'assistly_reply_oldest_due_age_seconds',
    help: 'For how long the oldest due reply could have been taken, by PostgreSQL’s clock; 0: there is none.',
    registers: this.registers,
  });
  readonly queueJobs = new Gauge({
    name: 'assistly_queue_jobs',
    help: 'BullMQ’s jobs that are waiting, active or delayed. A job only rings for a reply; what waits is told by the rows.',
    labelNames: ['state'],
    registers: this.registers,
  });
  readonly workers = new Gauge({
    name: 'assistly_workers',
    help: 'Workers connected to the queue, as its store tells; absent where it does not tell.',
    registers: this.registers,
  });
  readonly sourceUp = new Gauge({
    name: 'assistly_source_up',
    help: 'Whether a store answered in time for what is read from it: rows (PostgreSQL) or queue (BullMQ’s).',
    labelNames: ['source'],
    registers: this.registers,
  });

  // --- The process. The event loop's delay is among prom-client's own metrics (nodejs_eventloop_lag_…): the
  // histogram of Node's monitorEventLoopDelay, a sample each 10 ms, begun anew at each scrape. It could not be
  // measured better here.

  readonly poolConnections = new Gauge({
    name: 'assistly_database_pool_connections',
    help: 'Connections of this process’ pool to PostgreSQL: busy or idle.',
    labelNames: ['state'],
    registers: this.registers,
  });
  readonly poolMax = new Gauge({
    name: 'assistly_database_pool_max_connections',
    help: 'Most connections that the pool may open.',
    registers: this.registers,
  });
  readonly poolWaiting = new Gauge({
    name: 'assistly_database_pool_waiting',
    help: 'Callers that wait for a connection of the pool.',
    registers: this.registers,
  });

  private readonly readers: (() => void)[] = [];
  private readonly sources: (() => Promise<void>)[] = [];

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** @param read sets gauges to what is so now; cheap, as it is called at each scrape */
  beforeScrape(read: () => void): void {
    this.readers.push(read);
  }

  /** @param source is asked when somebody scrapes */
  addSource<T>(name: 'rows' | 'queue', source: ScrapeSource<T>): void {
    this.sources.push(async () => this.sourceUp.set({ source: name }, (await source.refresh()) ? 1 : 0));
  }

  /** The text that Prometheus reads. */
  async scrape(): Promise<string> {
    for (const read of this.readers) read();
    await Promise.all(this.sources.map((read) => read()));
    return this.registry.metrics();
  }
}
