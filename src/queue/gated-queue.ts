import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { type IQueueBackend, type JobsOptions, type Queue, RedisQueueBackend, withBackend } from 'bullmq';
import { PROOF_TTL_MS, proofKey } from '../redis/redis-connection.js';
import { Refusals } from '../redis/refusals.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { within } from '../runtime/within.js';
import type { JobTable, QueueContract } from './job-contract.js';
import { QUEUE_BACKEND, type QueueBackend } from './queue-backend.js';
import { QueueGate } from './queue-gate.js';

const REMOVE_TIMEOUT_MS = 5_000;
/** Longest that closing may take. */
const CLOSE_TIMEOUT_MS = 2_000;

/** BullMQ's queue, on either store and of any job. */
export type JobQueue = Queue<object, unknown, string, object, unknown, string, IQueueBackend>;

export interface QueueDepth {
  jobs: { waiting: number; active: number; delayed: number };
  /** Null where the store does not show who is connected. */
  workers: number | null;
}

/** What a queue is made of; the same for each. */
@Injectable()
export class QueueParts {
  constructor(
    @Inject(QUEUE_BACKEND) readonly backend: QueueBackend,
    readonly gate: QueueGate,
    readonly readiness: Readiness,
    readonly shutdown: Shutdown,
    @Inject(TIMINGS) readonly timings: Pick<Timings, 'enqueueTimeoutMs'>,
  ) {}
}

/**
 * What every queue needs, whatever its jobs: it opens behind the {@link QueueGate}, waits for its store within a
 * bound, is part of readiness, and closes when the process has ended what it needs it for.
 */
export abstract class GatedQueue<Jobs extends JobTable<Jobs>> implements OnModuleInit {
  protected readonly logger = new Logger(this.constructor.name);
  protected readonly pacedLogger = new PacedLogger(this.logger);
  private queue: JobQueue | null = null;
  private readonly openListeners: ((queue: JobQueue) => void)[] = [];
  private readonly refusals = new Refusals();
  private isClosing = false;

  protected constructor(
    readonly contract: QueueContract<Jobs>,
    private readonly parts: QueueParts,
  ) {}

  onModuleInit(): void {
    this.parts.readiness.register(this.contract.part, () => this.ping());
    this.parts.shutdown.register(ShutdownPhase.Close, () => this.close());
    void this.open();
  }

  /** Calls back with the queue once there is one, for Bull Board. */
  onOpen(listener: (queue: JobQueue) => void): void {
    if (this.queue) listener(this.queue);
    else this.openListeners.push(listener);
  }

  /** Resolves when the queue answers and takes writes; how long to wait is the caller's to know. */
  async ping(): Promise<void> {
    if (!this.queue) throw new MissingPartError(this.parts.gate.closedBy ?? 'it is not open yet');
    await this.queue.getJobCounts('waiting');
    const backend = this.queue.getBackend();
    // A Redis that became a replica goes on answering what only reads.
    if (backend instanceof RedisQueueBackend) {
      const client = await backend.client;
      await client.set(proofKey(this.parts.backend.prefix, 'queue'), 1, { PX: PROOF_TTL_MS });
      this.refusals.check();
    }
  }

  /** What the queue holds, and who works on it. */
  async depth(): Promise<QueueDepth> {
    const queue = this.opened();
    const [{ waiting = 0, active = 0, delayed = 0 }, workers] = await Promise.all([
      queue.getJobCounts('waiting', 'active', 'delayed'),
      queue.getWorkersCount().catch(() => null), // some Redis services forbid CLIENT LIST
    ]);
    return { jobs: { waiting, active, delayed }, workers };
  }

  async close(): Promise<void> {
    this.isClosing = true;
    if (this.queue) await within(CLOSE_TIMEOUT_MS, this.queue.close()).catch(() => undefined);
  }

  /**
   * Adds a job. Waits for the store no longer than `enqueueTimeoutMs`; a job that is late may still come.
   *
   * @throws where the queue is not open, or did not take the job in time
   */
  protected async add<Name extends keyof Jobs & string>(
    name: Name,
    data: Jobs[Name],
    options: JobsOptions,
  ): Promise<void> {
    if (this.isClosing) throw new Error('the queue is closed: the process stops');
    const added = this.refusals.watch('add', this.opened().add(name, data, options));
    await within(this.parts.timings.enqueueTimeoutMs, added);
  }

  /**
   * Removes a job, whether there is one or not.
   *
   * @returns false where it is being worked on: it can be removed once it has ended
   */
  protected async removeJob(jobId: string): Promise<boolean> {
    const queue = this.opened();
    await within(REMOVE_TIMEOUT_MS, queue.remove(jobId));
    return !(await within(REMOVE_TIMEOUT_MS, queue.getJob(jobId)));
  }

  private opened(): JobQueue {
    if (!this.queue) throw new Error('the queue is not open');
    return this.queue;
  }

  private async open(): Promise<void> {
    const { backend, gate } = this.parts;
    if (!(await gate.whenOpen()) || this.isClosing) return;
    const { Queue } = withBackend(backend.factory);
    const queue: JobQueue = new Queue<object, unknown>(this.contract.queue, {
      connection: backend.producerConnection,
      prefix: backend.prefix,
      defaultJobOptions: this.contract.options,
      streams: { events: { maxLen: 1_000 } }, // BullMQ's own record, read by nobody here; 10,000 by default
      telemetry: backend.telemetry,
    });
    queue.on('error', (error) =>
      this.pacedLogger.warn(
        { event: 'queue.store_failed', queue: this.contract.queue, err: error },
        'BullMQ reports an error of the store of a queue and tries again by itself',
      ),
    );
    this.queue = queue;
    for (const listener of this.openListeners) listener(queue);
  }
}
