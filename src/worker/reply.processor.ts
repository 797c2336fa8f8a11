import { BullRegistrar, Processor, WorkerHost } from '@nestjs/bullmq';
import { Inject, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import type { Job } from 'bullmq';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { within } from '../runtime/within.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { type GenerateJob, REPLIES_QUEUE } from '../conversations/reply-queue.js';
import { ReplyLifecycle } from '../conversations/reply-lifecycle.js';
import { QueueGate } from '../queue/queue-gate.js';
import { type Result, ReplyGenerator } from './reply-generator.js';

/** Longest that closing a worker may take, after its jobs have ended. */
const CLOSE_TIMEOUT_MS = 3_000;

/** Takes jobs from the queue; what they mean is the generator's to know. */
@Processor(REPLIES_QUEUE, {
  autorun: false, // once the concurrency is set, below
  lockDuration: 30_000,
  stalledInterval: 15_000,
  maxStalledCount: 3, // a job that stalls is rung again; whether the reply is tried again is the row's to decide
  runRetryDelay: 1_000, // longer, and a job that ended while the store was down would be run again
  drainDelay: 5, // seconds
})
@Injectable()
export class RepliesProcessor extends WorkerHost {
  private readonly logger = new Logger(RepliesProcessor.name);
  private isStopping = false;
  private closing: Promise<void> | null = null;

  constructor(
    private readonly generator: ReplyGenerator,
    private readonly lifecycle: ReplyLifecycle,
  ) {
    super();
  }

  /** From here on no reply is begun; those that run go on. */
  stopTaking(): void {
    this.isStopping = true;
    if (this.closing) return;
    // Unlike a pause it also wakes the worker where it waits for a job. It resolves when the running ones have ended.
    this.closing = this.worker.close();
    // Nest closes the worker once more at the end, and would wait without a bound for a store that is gone.
    this.worker.close = () => this.close();
  }

  /** Closes the worker's connections, whose jobs have ended. */
  async close(): Promise<void> {
    if (this.closing) await within(CLOSE_TIMEOUT_MS, this.closing).catch(() => undefined);
  }

  /** Ids and codes only in what is returned or thrown: BullMQ keeps both. */
  override async process(job: Job<GenerateJob>): Promise<Result> {
    const { version, replyId, number } = job.data;
    if (version !== 1) {
      this.logger.warn({ jobId: job.id, version }, 'a job of an unknown version is left alone');
      return { outcome: 'nothing_to_do' };
    }
    if (this.isStopping) {
      // BullMQ may still take one that comes while it stops: to be rung again, for another worker.
      await this.lifecycle.markUndispatched({ ...job.data, delayMs: 0 }).catch(() => undefined);
      return { outcome: 'nothing_to_do' };
    }
    let result: Result;
    try {
      result = await this.generator.generate(replyId, number);
    } catch (error) {
      this.logger.error({ err: error, replyId }, 'a job failed; its reply is rung for again');
      throw new Error('internal'); // BullMQ keeps the message: nothing of the cause may be in it
    }
    // So that Bull Board shows it among the failed.
    if (result.outcome === 'failed') throw new Error(`the reply failed: ${result.errorCode ?? 'internal'}`);
    return result;
  }
}

/** Starts the worker when its queue is there, and stops it before anything that it needs. */
@Injectable()
export class RepliesWorker implements OnApplicationBootstrap {
  private readonly logger = new Logger(RepliesWorker.name);
  private isRunning = false;
  private isStopping = false;

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'REPLY_CONCURRENCY'>,
    private readonly gate: QueueGate,
    private readonly registrar: BullRegistrar,
    private readonly processor: RepliesProcessor,
    private readonly generator: ReplyGenerator,
    shutdown: Shutdown,
    readiness: Readiness,
  ) {
    readiness.register('worker', async () => {
      if (!this.isRunning || this.isStopping) throw new MissingPartError('it takes no jobs');
    });
    shutdown.register(ShutdownPhase.StopTaking, () => this.stopTaking());
    shutdown.register(ShutdownPhase.Drain, () => this.generator.drain());
    shutdown.register(ShutdownPhase.Close, () => this.processor.close());
  }

  onApplicationBootstrap(): void {
    void this.start();
  }

  private async start(): Promise<void> {
    if (!(await this.gate.whenOpen()) || this.isStopping) return;
    this.registrar.register();
    const { worker } = this.processor;
    worker.concurrency = this.config.REPLY_CONCURRENCY;
    worker.on('error', (error) => this.logger.warn({ err: error }, 'the worker reports an error'));
    this.isRunning = true;
    worker.run().catch((error: unknown) => this.logger.error({ err: error }, 'the worker has ended'));
  }

  private stopTaking(): void {
    this.isStopping = true;
    if (this.isRunning) this.processor.stopTaking();
  }
}
