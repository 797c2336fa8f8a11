import { BullRegistrar } from '@nestjs/bullmq';
import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { QueueGate } from '../queue/queue-gate.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { MissingPartError, Readiness, reasonOf } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { LoopWatch } from './loop-watch.js';
import { ReplyGenerator } from './reply-generator.js';
import { ReplyProcessor } from './reply.processor.js';

/** How long after its store refused what it needs a worker counts as not ready, in milliseconds; it tries again sooner. */
const REFUSAL_MS = 8_000;

/** Starts BullMQ's worker once the queue is open, and stops it before everything that it depends on. */
@Injectable()
export class ReplyWorker implements OnModuleInit, OnApplicationBootstrap {
  private readonly logger = new Logger(ReplyWorker.name);
  private readonly pacedLogger = new PacedLogger(this.logger);
  private isRunning = false;
  private refusal: { error: Error; at: number } | null = null;
  private isStopping = false;
  private loopWatch: LoopWatch | null = null;

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'REPLY_CONCURRENCY'>,
    private readonly gate: QueueGate,
    private readonly registrar: BullRegistrar,
    private readonly processor: ReplyProcessor,
    private readonly generator: ReplyGenerator,
    private readonly shutdown: Shutdown,
    private readonly readiness: Readiness,
  ) {}

  onModuleInit(): void {
    this.readiness.register('worker', async () => {
      if (!this.isRunning || this.isStopping) throw new MissingPartError('it takes no jobs');
      if (this.refusal && performance.now() - this.refusal.at < REFUSAL_MS) {
        throw new MissingPartError(`it gets no jobs: ${reasonOf(this.refusal.error)}`);
      }
    });
    this.shutdown.register(ShutdownPhase.StopTaking, () => this.stopTaking());
    this.shutdown.register(ShutdownPhase.Drain, () => this.generator.drain());
    this.shutdown.register(ShutdownPhase.Close, () => this.processor.close());
  }

  onApplicationBootstrap(): void {
    void this.start();
  }

  private async start(): Promise<void> {
    if (!(await this.gate.whenOpen()) || this.isStopping) return;
    this.registrar.register();
    const { worker } = this.processor;
    worker.concurrency = this.config.REPLY_CONCURRENCY;
    this.loopWatch = new LoopWatch((isLate) => this.adapt(isLate));
    worker.on('error', (error) => {
      if (error.name === 'ReplyError') this.refusal = { error, at: performance.now() };
      this.pacedLogger.warn(
        { event: 'reply.worker_error', err: error },
        'the reply worker reports an error of BullMQ and continues',
      );
    });
    this.isRunning = true;
    worker
      .run()
      .catch((error: unknown) =>
        this.logger.error(
          { event: 'reply.worker_ended', err: error },
          'the reply worker ended with an error and takes no more jobs',
        ),
      );
  }

  /** A worker whose loop is late takes no job while it has one, rather than lose the leases of those that it has. */
  private adapt(isLate: boolean): void {
    const { worker } = this.processor;
    worker.concurrency = isLate ? 1 : this.config.REPLY_CONCURRENCY;
    if (!isLate) {
      this.wake();
      return;
    }
    this.pacedLogger.warn(
      { event: 'reply.worker_late' },
      'the event loop of a worker is late: it takes no more jobs until it has caught up',
    );
  }

  /**
   * BullMQ's loop sleeps until one of its jobs ends, whatever has become of the concurrency. Its own `resume()` wakes it like
   * this; but only after a pause, in which the loop could end.
   */
  private wake(): void {
    const jobs = Reflect.get(this.processor.worker, 'mainLoopQueue') as {
      add(job: Promise<void>): void;
    } | null;
    jobs?.add(Promise.resolve());
  }

  private stopTaking(): void {
    this.isStopping = true;
    this.loopWatch?.stop();
    if (this.isRunning) this.processor.stopTaking();
  }
}
