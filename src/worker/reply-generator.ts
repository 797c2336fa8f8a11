import { Inject, Injectable } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { ReplyQueue } from '../conversations/reply-queue.js';
import { ReplyClaims } from '../conversations/reply-store/claims.js';
import { ReplyDispatching } from '../conversations/reply-store/dispatching.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { inSpan, SpanAttribute } from '../tracing/spans.js';
import { AttemptServices } from './attempt-services.js';
import { ReplyAttempt, type Result } from './reply-attempt.js';
import { StartGate } from './start-gate.js';
import { StopReason } from './stop-reason.js';

interface Run {
  stop: AbortController;
  done: Promise<Result>;
}

/** Claims replies and runs an attempt for each; knows all that run, so that a shutdown can hand them back. */
@Injectable()
export class ReplyGenerator {
  private readonly runs = new Set<Run>();

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'DRAIN_TIMEOUT_MS'>,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'leaseMarginMs'>,
    private readonly claims: ReplyClaims,
    private readonly dispatching: ReplyDispatching,
    private readonly queue: ReplyQueue,
    private readonly startGate: StartGate,
    private readonly services: AttemptServices,
  ) {}

  /** Works on a reply, if there is work to do. Never throws for what a reply can go through. */
  async generate(replyId: string, dispatchNumber: number): Promise<Result> {
    const stop = new AbortController();
    // Registered before the claim: one that is under way when the process stops is handed back too.
    const run = { stop, done: this.claimAndRun(replyId, dispatchNumber, stop) };
    this.runs.add(run);
    try {
      return await run.done;
    } finally {
      this.runs.delete(run);
    }
  }

  /** Waits for the running attempts, at most `DRAIN_TIMEOUT_MS`, and hands the rest back. */
  async drain(): Promise<void> {
    this.startGate.close();
    const all = (): Promise<unknown> => Promise.allSettled([...this.runs].map(({ done }) => done));
    await Promise.race([
      all(),
      new Promise((resolve) => setTimeout(resolve, this.config.DRAIN_TIMEOUT_MS).unref()),
    ]);
    for (const { stop } of this.runs) stop.abort(StopReason.HandBack);
    await Promise.race([
      all(),
      new Promise((resolve) => setTimeout(resolve, this.timings.leaseMarginMs).unref()),
    ]);
  }

  private async claimAndRun(replyId: string, dispatchNumber: number, stop: AbortController): Promise<Result> {
    const leave = await this.startGate.enter();
    if (!leave) {
      // The process stops: marked, so that the reconciler enqueues the reply for another worker.
      await this.dispatching.markUndispatched({ replyId, number: dispatchNumber }).catch(() => undefined);
      return { outcome: 'nothing_to_do' };
    }
    try {
      return await this.claimAndAttempt(replyId, dispatchNumber, stop, leave);
    } finally {
      leave();
    }
  }

  private async claimAndAttempt(
    replyId: string,
    dispatchNumber: number,
    stop: AbortController,
    onAsking: () => void,
  ): Promise<Result> {
    const claimed = await this.claims.claim(replyId);
    if (claimed) {
      const { claim, reply } = claimed;
      const attributes = {
        [SpanAttribute.ReplyId]: claim.replyId,
        [SpanAttribute.SessionId]: claim.sessionId,
        [SpanAttribute.Attempt]: claim.attempt,
        ...(reply.request_id !== null && { [SpanAttribute.RequestId]: reply.request_id }),
      };
      return inSpan('reply attempt', { attributes }, () =>
        new ReplyAttempt(this.services, claimed, stop, onAsking).run(),
      );
    }
    const later = await this.dispatching.postpone(replyId, dispatchNumber);
    if (later) await this.queue.enqueue(later);
    return { outcome: 'nothing_to_do' };
  }
}
