import { BullRegistrar } from '@nestjs/bullmq';
import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { QueueGate } from '../queue/queue-gate.js';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { ReplyGenerator } from './reply-generator.js';
import { ReplyProcessor } from './reply.processor.js';

/** Starts BullMQ's worker once the queue is open, and stops it before everything that it depends on. */
@Injectable()
export class ReplyWorker implements OnModuleInit, OnApplicationBootstrap {
  private readonly logger = new Logger(ReplyWorker.name);
  private isRunning = false;
  private isStopping = false;

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
    worker.on('error', (error) =>
      this.logger.warn(
        { event: 'reply.worker_error', err: error },
        'the reply worker reports an error of BullMQ and continues',
      ),
    );
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

  private stopTaking(): void {
    this.isStopping = true;
    if (this.isRunning) this.processor.stopTaking();
  }
}
