import { Inject, Injectable, Logger, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { PacedLogger } from '../runtime/paced-logger.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { Database } from '../database/database.js';
import type { Row } from '../database/tables.js';
import { EventStream } from '../events/event-stream.js';
import { pruneSessionTokens } from './session-access.js';
import { countSessions } from './session-counts.js';
import { pruneIdempotencyKeys } from '../database/idempotency.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { hasUncountedTexts } from '../chatbots/uncounted-texts.js';
import { ErasureService } from './erasure.service.js';
import { ReplyEventPublisher } from './reply-event-publisher.js';
import { ReplyMetrics } from './reply-metrics.js';
import { LostReason, ReplyErrorCode } from './reply-status.js';
import { ReplyCancellation } from './reply-cancellation.js';
import { ReplyPublication } from './reply-store/publication.js';
import { ReplyReconciliation } from './reply-store/reconciliation.js';
import { ReplyUsage } from './reply-store/usage.js';
import { ReplyQueue } from './reply-queue.js';

/** What has expired is deleted at every so manyth round: about once a minute. */
const PRUNE_EVERY = 20;

/**
 * Finishes what was interrupted: by a crash between a commit and the steps after it, by a job that was lost, by a
 * worker that died. Nothing depends on it while all goes well; with it, nothing stays unfinished for ever.
 */
@Injectable()
export class Reconciler implements OnModuleInit, OnApplicationBootstrap {
  private readonly logger = new Logger(Reconciler.name);
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | null = null;
  private rounds = 0;
  private isStopped = false;

  /** Where the queue takes no jobs, every sweep finds the same replies. */
  private readonly pacedLogger = new PacedLogger(this.logger);

  constructor(
    private readonly reconciliation: ReplyReconciliation,
    private readonly publication: ReplyPublication,
    private readonly usage: ReplyUsage,
    private readonly queue: ReplyQueue,
    private readonly publisher: ReplyEventPublisher,
    private readonly cancellation: ReplyCancellation,
    private readonly erasures: ErasureService,
    private readonly stream: EventStream,
    private readonly database: Database,
    private readonly metrics: ReplyMetrics,
    @Inject(CONFIG)
    private readonly config: Pick<Config, 'RETENTION_DAYS_MAX' | 'SESSION_TOKEN_TTL_DAYS'>,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'reconcileIntervalMs'>,
    private readonly shutdown: Shutdown,
  ) {}

  onModuleInit(): void {
    this.shutdown.register(ShutdownPhase.StopTaking, () => this.stop());
  }

  onApplicationBootstrap(): void {
    this.schedule();
  }

  private schedule(): void {
    // Jitter keeps many processes from looking all at once.
    const delayMs = this.timings.reconcileIntervalMs * (0.75 + Math.random() / 2);
    this.timer = setTimeout(() => {
      this.running = this.reconcile().finally(() => {
        this.running = null;
        if (!this.isStopped) this.schedule();
      });
    }, delayMs);
  }

  private async stop(): Promise<void> {
    this.isStopped = true;
    clearTimeout(this.timer);
    await this.running;
  }

  /** One round; each of its parts is tried even when another one fails. */
  async reconcile(): Promise<void> {
    this.rounds++;
    await this.part('replies', async () => {
      const found = await this.reconciliation.reconcile();
      const ended = new Set(found?.finished.map(({ reply }) => reply.id));
      const lost = new Set(found?.lost.map(({ id }) => id));
      // At once: a stream that hangs must not keep the jobs back, one reply after the other.
      await Promise.all(
        (found?.lost ?? []).map((reply) =>
          this.reportLost(reply, !ended.has(reply.id) && reply.cancel_requested_at === null),
        ),
      );
      for (const { reply, message, next } of found?.finished ?? []) {
        this.logger.warn(
          {
            event: 'reply.given_up',
            replyId: reply.id,
            sessionId: reply.chat_session_id,
            requestId: reply.request_id,
            attempt: reply.attempt,
            worker: reply.claimed_by,
            code: reply.error_code,
            reason: reply.error_code === ReplyErrorCode.Expired ? 'deadline' : 'attempts',
          },
          'a reply failed for good: its attempts or its time ran out without an answer',
        );
        await this.publisher.publishFinished(reply, message);
        await this.queue.enqueueNext(next);
      }
      for (const { sessionId, replyId, requestId, attempt, worker } of found?.cancels ?? []) {
        this.logger.warn(
          { event: 'reply.cancel_resumed', replyId, sessionId, requestId, attempt, worker },
          'a cancel of a reply was noted and not carried out: the reconciler carries it out',
        );
        await this.cancellation.cancel(sessionId, replyId, null);
      }
      for (const dispatch of found?.dispatches ?? []) {
        this.pacedLogger.warn(
          {
            event: 'reply.enqueued_again',
            replyId: dispatch.replyId,
            sessionId: dispatch.sessionId,
            requestId: dispatch.requestId,
            number: dispatch.number,
            attempt: dispatch.attempt,
            worker: dispatch.worker,
            reason: lost.has(dispatch.replyId) ? 'lease lost' : 'job lost or not taken',
          },
          'a due reply was not claimed by any worker: the reconciler enqueues it again',
        );
        await this.queue.enqueue(dispatch);
      }
    });
    await this.part('unpublished ends', async () => {
      for (const { reply, message } of await this.publication.findUnpublished()) {
        await this.publisher.publishFinished(reply, message);
      }
    });
    await this.part('usage', () => this.usage.countEnded());
    await this.part('session counts', () => countSessions(this.database));
    await this.part('uncounted texts', async () => {
      if (await this.database.readOnce(hasUncountedTexts)) await this.queue.enqueueTokenCount();
    });
    await this.part('owners who are gone', () => this.erasures.continueWithOwners());
    await this.part('erasures', () => this.erasures.removeTraces());
    if (this.rounds % PRUNE_EVERY === 0) {
      await this.part('event stream', () => this.stream.prune());
      await this.part('retention', () => this.erasures.deleteExpired(this.config.RETENTION_DAYS_MAX ?? null));
      await this.part('session tokens', () => pruneSessionTokens(this.database, this.config));
      await this.part('idempotency keys', () => pruneIdempotencyKeys(this.database));
    }
  }

  /** @param isTriedAgain whether another attempt is to come */
  private async reportLost(reply: Row<'replies'>, isTriedAgain: boolean): Promise<void> {
    this.metrics.attemptEnded(LostReason.WorkerLost);
    this.logger.warn(
      {
        event: 'reply.lease_lost',
        replyId: reply.id,
        sessionId: reply.chat_session_id,
        requestId: reply.request_id,
        attempt: reply.attempt,
        worker: reply.claimed_by,
        isTriedAgain,
      },
      'a worker stopped renewing the lease of a reply: its attempt is charged as a failure',
    );
    if (!isTriedAgain) return;
    const { id: replyId, attempt } = reply;
    await this.publisher.publishRetrying(reply.chat_session_id, {
      replyId,
      attempt,
      reason: LostReason.WorkerLost,
      retryAt: null,
    });
  }

  private async part(what: string, work: () => Promise<void>): Promise<void> {
    if (this.isStopped) return;
    try {
      await work();
    } catch (error) {
      this.logger.warn(
        { event: 'reconciler.part_failed', part: what, err: error },
        `the reconciler failed at the ${what}: its next round tries again`,
      );
    }
  }
}
