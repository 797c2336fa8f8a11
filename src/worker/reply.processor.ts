import { Processor, WorkerHost } from '@nestjs/bullmq';
import { Injectable, Logger } from '@nestjs/common';
import type { Job } from 'bullmq';
import { within } from '../runtime/within.js';
import { type GenerateJob, readReplyJob, REPLY_QUEUE } from '../conversations/reply-jobs.js';
import { ReplyDispatching } from '../conversations/reply-store/dispatching.js';
import type { Result } from './reply-attempt.js';
import { ReplyGenerator } from './reply-generator.js';
import { TokenCounter } from './token-counter.js';

/** Longest that closing a worker may take, after its jobs have ended. */
const CLOSE_TIMEOUT_MS = 3_000;

/** Takes jobs from the queue and hands each to the generator, which decides what there is to do. */
@Processor(REPLY_QUEUE.queue, {
  autorun: false, // once the concurrency is set, below
  lockDuration: 30_000,
  stalledInterval: 15_000,
  maxStalledCount: 3, // a stalled job runs again; the reply's row decides whether there is another attempt
  runRetryDelay: 1_000, // longer, and a job that ended while the store was down would be run again
  drainDelay: 5, // seconds
})
@Injectable()
export class ReplyProcessor extends WorkerHost {
  private readonly logger = new Logger(ReplyProcessor.name);
  private isStopping = false;
  private closing: Promise<void> | null = null;

  constructor(
    private readonly generator: ReplyGenerator,
    private readonly dispatching: ReplyDispatching,
    private readonly tokenCounter: TokenCounter,
  ) {
    super();
  }

  /** Starts no reply from now on; running attempts continue. */
  stopTaking(): void {
    this.isStopping = true;
    if (this.closing) return;
    // Unlike a pause it also wakes the worker where it waits for a job. It resolves when the running ones have ended.
    this.closing = this.worker.close();
    // Nest closes the worker again at the end, and would wait without a limit for a store that does not answer.
    this.worker.close = () => this.close();
  }

  /** Closes the worker's connections, once its jobs have ended. */
  async close(): Promise<void> {
    if (this.closing) await within(CLOSE_TIMEOUT_MS, this.closing).catch(() => undefined);
  }

  /** Ids and codes only in what is returned or thrown: BullMQ keeps both. */
  override async process(job: Job<unknown, Result>): Promise<Result> {
    const known = readReplyJob(job);
    switch (known?.name) {
      case 'generate':
        return this.generate(known.data, job.id);
      case 'count_tokens':
        await this.countTokens();
        return { outcome: 'completed' };
      case undefined:
        this.logger.warn(
          { event: 'reply.job_unknown', jobId: job.id, job: job.name },
          'a job has an unknown name or version, or a payload that does not fit, and is skipped: the reconciler enqueues its reply again',
        );
        return { outcome: 'nothing_to_do' };
    }
  }

  private async countTokens(): Promise<void> {
    try {
      await this.tokenCounter.countAll();
    } catch (error) {
      this.logger.warn(
        { event: 'token_count.failed', err: error },
        'the tokens of what owners wrote could not all be counted: the reconciler enqueues the job again',
      );
      throw new Error('internal'); // as below
    }
  }

  private async generate(job: GenerateJob, jobId: string | undefined): Promise<Result> {
    const { replyId, sessionId, number, requestId } = job;
    if (this.isStopping) {
      // BullMQ may still take a job while it stops: marked, so that the reconciler enqueues the reply for another worker.
      await this.dispatching.markUndispatched({ replyId, number }).catch(() => undefined);
      return { outcome: 'nothing_to_do' };
    }
    let result: Result;
    try {
      result = await this.generator.generate(job);
    } catch (error) {
      this.logger.error(
        { event: 'reply.job_failed', jobId, replyId, sessionId, requestId, err: error },
        'a reply job failed with an unexpected error: the reconciler enqueues its reply again',
      );
      throw new Error('internal'); // BullMQ stores the message, so it must hold nothing of the cause
    }
    // So that Bull Board shows it among the failed.
    if (result.outcome === 'failed') throw new Error(`the reply failed: ${result.errorCode ?? 'internal'}`);
    return result;
  }
}
