/**
 * The times that decide when something is given up, looked at again or put right. They belong together, since one
 * bounds the other (a lease outlives its heartbeats, a client outlives the wait of its request), so nobody sets them
 * by environment variable. A test that would have to wait for one of them passes another to `createApp`.
 *
 * All are in milliseconds.
 */
export interface Timings {
  /** How long a claim lives without a heartbeat. */
  leaseMs: number;
  /** How often a worker renews its claim. */
  heartbeatIntervalMs: number;
  /** A worker that could not renew its lease stops so long before it runs out: another one may begin then. */
  leaseMarginMs: number;
  /** How often a worker looks whether its lease is about to run out. */
  leaseWatchIntervalMs: number;
  /** Pause before a finish is tried again while the database is away. */
  finishRetryIntervalMs: number;
  /** Pause before a budget is asked again, which replies that are being made may spend. */
  budgetRetryIntervalMs: number;
  /** Pause before the second attempt; doubled for each one after it, with jitter, up to the maximum. */
  attemptBackoffMs: number;
  maxAttemptBackoffMs: number;
  /** How long a model that failed too often is left alone before one call tries again. */
  circuitOpenMs: number;

  /** How often a process looks for what fell between, give or take a quarter; each time, one of them does the work. */
  reconcileIntervalMs: number;
  /** A due reply is enqueued again when nobody claimed it for so long; doubled for each job in vain, up to a minute. */
  redispatchAfterMs: number;
  /** The end of a reply that has not been published for so long is published by the reconciler. */
  publishAfterMs: number;
  /** A cancel that was accepted and not carried out for so long is carried out by the reconciler. */
  cancelAfterMs: number;

  /** Longest that a caller waits for the queue; the reconciler enqueues the reply again if it does not answer. */
  enqueueTimeoutMs: number;
  /**
   * How long a request waits for the event stream: for the cursor, and then for its events beside the queue. Together
   * that is less than a second, in which a post is answered also while the stream hangs. What comes later takes effect
   * all the same.
   */
  cursorTimeoutMs: number;
  publishTimeoutMs: number;
  /** Every call of the event stream settles within this time. */
  streamDeadlineMs: number;
  /** How long a repetition waits for the first request with its idempotency key. */
  idempotencyWaitMs: number;
  /** How often a long poll reads the row, should the event stream be silent or down. */
  pollReadIntervalMs: number;

  /** A comment goes out this often on an open event stream, and the rows are asked whether its session still exists. */
  sseKeepAliveIntervalMs: number;
  /** An event stream ends after so long, so that connections move to new processes and credentials are checked again. */
  sseMaxAgeMs: number;
  /** How long a client may leave its buffer full before it is disconnected. It resumes by cursor. */
  sseMaxStallMs: number;
  /** Pause before a snapshot is tried again while the event stream is unavailable. */
  snapshotRetryIntervalMs: number;

  /** Deadline of one readiness check: a load balancer asks often, and must be answered while a store hangs. */
  readinessCheckTimeoutMs: number;
  /** A scrape waits so long for a store; Prometheus by itself gives up after ten seconds. */
  scrapeTimeoutMs: number;
  /** How long what a scrape read is shown: whoever scrapes, and however often, a store is not asked more often. */
  scrapeFreshMs: number;
}

/** What runs everywhere but in tests. */
export const DEFAULT_TIMINGS: Readonly<Timings> = {
  leaseMs: 20_000,
  heartbeatIntervalMs: 5_000,
  leaseMarginMs: 5_000,
  leaseWatchIntervalMs: 1_000,
  finishRetryIntervalMs: 500,
  budgetRetryIntervalMs: 250,
  attemptBackoffMs: 1_000,
  maxAttemptBackoffMs: 30_000,
  circuitOpenMs: 10_000,

  reconcileIntervalMs: 3_000,
  redispatchAfterMs: 8_000,
  publishAfterMs: 3_000,
  cancelAfterMs: 3_000,

  enqueueTimeoutMs: 500,
  cursorTimeoutMs: 300,
  publishTimeoutMs: 500,
  streamDeadlineMs: 2_000,
  idempotencyWaitMs: 5_000,
  pollReadIntervalMs: 2_000,

  sseKeepAliveIntervalMs: 15_000,
  sseMaxAgeMs: 15 * 60_000,
  sseMaxStallMs: 30_000,
  snapshotRetryIntervalMs: 1_000,

  readinessCheckTimeoutMs: 1_500,
  scrapeTimeoutMs: 1_000,
  scrapeFreshMs: 3_000,
};

/** Injection token of the {@link Timings}. */
export const TIMINGS = Symbol('TIMINGS');
