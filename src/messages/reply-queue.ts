import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { type DefaultJobOptions, Queue } from 'bullmq';
import { MissingPartError } from '../common/readiness.js';
import { within } from '../common/within.js';
import type { QueueBackend } from '../queue/queue-backend.js';
import { QueueGate } from '../queue/queue-gate.js';
import { QUEUE_BACKEND } from '../queue/queue.module.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { inOwnTrace, SpanAttribute } from '../tracing/spans.js';
import { type Dispatch, ReplyLifecycle } from './reply-lifecycle.js';

/**
 * The queue's contract: name, payload, options, job ids. A job only rings a bell; what to do is read from the
 * rows. So a job may come twice, late or never without harm.
 */
export const REPLIES_QUEUE = 'replies';
export const GENERATE_JOB = 'generate';

/** Ids only: what people wrote never goes into the queue. A job of a version that one does not know is left alone. */
export interface GenerateJob {
  version: 1;
  replyId: string;
  sessionId: string;
  /** The nth job of this reply. */
  number: number;
  requestId: string | null;
}

/** A job id is never used twice: BullMQ silently ignores an id that it has, finished jobs included. */
export const jobIdOf = (replyId: string, number: number): string => `r-${replyId}-${number}`;

const JOB_OPTIONS: DefaultJobOptions = {
  attempts: 1, // a retry is the row's to decide, and a new job
  removeOnComplete: { age: 3_600, count: 1_000 }, // for Bull Board to show; seconds
  removeOnFail: { age: 86_400, count: 1_000 },
  stackTraceLimit: 0, // the log has it
};

export interface QueueDepth {
  jobs: { waiting: number; active: number; delayed: number };
  /** Null where the store does not tell who is connected. */
  workers: number | null;
}

/** Longest that closing may take. */
const CLOSE_TIMEOUT_MS = 2_000;
const REMOVE_TIMEOUT_MS = 5_000;

@Injectable()
export class ReplyQueue implements OnModuleInit {
  private readonly logger = new Logger(ReplyQueue.name);
  private queue: Queue<GenerateJob> | null = null;
  private readonly openListeners: ((queue: Queue<GenerateJob>) => void)[] = [];
  private isClosing = false;

  constructor(
    @Inject(QUEUE_BACKEND) private readonly backend: QueueBackend,
    private readonly gate: QueueGate,
    private readonly lifecycle: ReplyLifecycle,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'enqueueTimeoutMs'>,
  ) {}

  onModuleInit(): void {
    void this.open();
  }

  private async open(): Promise<void> {
    if (!(await this.gate.whenOpen()) || this.isClosing) return;
    const queue = new Queue<GenerateJob>(
      REPLIES_QUEUE,
      {
        connection: this.backend.producerConnection,
        prefix: this.backend.prefix,
        defaultJobOptions: JOB_OPTIONS,
        streams: { events: { maxLen: 1_000 } }, // BullMQ's own record, read by nobody here; 10,000 by default
        telemetry: this.backend.telemetry,
      },
      // Its types know only BullMQ's own backends in this place.
      this.backend.factory as never,
    );
    queue.on('error', (error) => this.logger.warn({ err: error }, 'the queue reports an error'));
    this.queue = queue;
    for (const listener of this.openListeners) listener(queue);
  }

  /** Calls back with the queue once there is one, for Bull Board. */
  onOpen(listener: (queue: Queue<GenerateJob>) => void): void {
    if (this.queue) listener(this.queue);
    else this.openListeners.push(listener);
  }

  /** Rings for a reply. Never throws and never waits long: a bell that fails is rung again by the sweeper. */
  async ring(dispatch: Dispatch): Promise<void> {
    try {
      if (!this.queue || this.isClosing) throw new Error('the queue is not open');
      const job: GenerateJob = {
        version: 1,
        replyId: dispatch.replyId,
        sessionId: dispatch.sessionId,
        number: dispatch.number,
        requestId: dispatch.requestId,
      };
      const added = this.queue.add(GENERATE_JOB, job, {
        jobId: jobIdOf(dispatch.replyId, dispatch.number),
        ...(dispatch.delayMs > 0 && { delay: dispatch.delayMs }),
      });
      await within(this.timings.enqueueTimeoutMs, added);
    } catch (error) {
      this.logger.warn(
        { err: error, replyId: dispatch.replyId },
        'the queue did not take a job; it is rung again',
      );
      await this.lifecycle
        .markUndispatched(dispatch)
        .catch((cause: unknown) => this.logger.warn({ err: cause }, 'could not note that'));
    }
  }

  /**
   * Rings for the reply that waited behind another one, which has ended; null: none did. A request of its own caused
   * it, so its trace is not the one that it is rung from.
   */
  async ringNext(next: Dispatch | null): Promise<void> {
    if (!next) return;
    const attributes = {
      [SpanAttribute.ReplyId]: next.replyId,
      [SpanAttribute.SessionId]: next.sessionId,
      ...(next.requestId !== null && { [SpanAttribute.RequestId]: next.requestId }),
    };
    await inOwnTrace('next reply', { attributes }, () => this.ring(next));
  }

  /**
   * Removes every job ever rung for a reply.
   *
   * @returns false where one is still being worked on: it can be removed once it has ended
   */
  async remove(replyId: string, dispatchCount: number): Promise<boolean> {
    const queue = this.queue;
    if (!queue) throw new Error('the queue is not open');
    let isGone = true;
    for (let number = 1; number <= dispatchCount; number++) {
      const jobId = jobIdOf(replyId, number);
      await within(REMOVE_TIMEOUT_MS, queue.remove(jobId));
      if (await within(REMOVE_TIMEOUT_MS, queue.getJob(jobId))) isGone = false;
    }
    return isGone;
  }

  /** Resolves when the queue answers; how long to wait is the caller's to know. */
  async ping(): Promise<void> {
    if (!this.queue) throw new MissingPartError(this.gate.closedBy ?? 'it is not open yet');
    await this.queue.getJobCounts('waiting');
  }

  /** What the queue holds, and who works on it. */
  async depth(): Promise<QueueDepth> {
    const queue = this.queue;
    if (!queue) throw new Error('the queue is not open');
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
}
