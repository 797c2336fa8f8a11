import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import type { GenerateJob } from '../conversations/reply-jobs.js';
import { ReplyQueue } from '../conversations/reply-queue.js';
import { ReplyClaims } from '../conversations/reply-store/claims.js';
import { ReplyDispatching } from '../conversations/reply-store/dispatching.js';
import type { Claim } from '../conversations/reply-store/transitions.js';
import { ReplyWaiting, type Shareholder } from '../conversations/reply-store/waiting.js';
import type { ReplyRow } from '../conversations/reply.dto.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { inOwnTrace, inSpan, SpanAttribute } from '../tracing/spans.js';
import { AttemptServices } from './attempt-services.js';
import { FairShares } from './fair-shares.js';
import { ReplyAttempt, type Result } from './reply-attempt.js';
import { StartGate } from './start-gate.js';
import { StopReason } from './stop-reason.js';

/** How often somebody who was passed over is looked for, in milliseconds. */
const WATCH_INTERVAL_MS = 500;
/** How often a job looks for a reply to make, where slots are let go all the time. */
const MAX_LOOKS = 5;
/** How long a reply is not woken again that has just been, in milliseconds. */
const WOKEN_FOR_MS = 2_000;

/** What a job says of the reply that it was enqueued for. */
type Wake = Pick<GenerateJob, 'replyId' | 'number' | 'chatbotId'>;

interface Run {
  stop: AbortController;
  done: Promise<Result>;
}

type Claimed = { claim: Claim; reply: ReplyRow };

/**
 * Claims replies and runs an attempt for each; knows all that run, so that a shutdown can hand them back.
 *
 * A job says that a reply waits. It is that reply's turn as long as there are slots for all; else the rows say whose turn it
 * is, and each job makes one reply: its own, unless another has a better right. A job that finds nobody who may have a slot is made up for as
 * soon as one is let go.
 */
@Injectable()
export class ReplyGenerator {
  private readonly runs = new Set<Run>();
  private readonly pacedLogger = new PacedLogger(new Logger(ReplyGenerator.name));
  /** Jobs that found none to make, where some may wait for a slot of their chatbot or owner; 0: nobody waits for that. */
  private passedOver = 0;
  private waking: Promise<void> = Promise.resolve();
  /** Looks for whom to wake that are not over. */
  private wakes = 0;
  private slotsLetGo = 0;
  private watching: NodeJS.Timeout | null = null;
  /** Replies that were woken, and until when they are not again. */
  private readonly woken = new Map<string, number>();

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'DRAIN_TIMEOUT_MS'>,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'leaseMarginMs'>,
    private readonly claims: ReplyClaims,
    private readonly dispatching: ReplyDispatching,
    private readonly waiting: ReplyWaiting,
    private readonly queue: ReplyQueue,
    private readonly shares: FairShares,
    private readonly startGate: StartGate,
    private readonly services: AttemptServices,
  ) {}

  /** Works on a reply, if there is work to do. Never throws for what a reply can go through. */
  async generate(wake: Wake): Promise<Result> {
    const stop = new AbortController();
    // Registered before the claim: one that is under way when the process stops is handed back too.
    const run = { stop, done: this.claimAndRun(wake, stop) };
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
    this.stopWatching();
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

  private async claimAndRun(wake: Wake, stop: AbortController): Promise<Result> {
    this.woken.delete(wake.replyId); // it has come: if it finds no slot, it may be woken again
    const who = await this.shares.shareholderOf(wake.chatbotId, (id) => this.waiting.ownerOf(id));
    const leave = await this.startGate.enter(this.shares.heldByOwnerOf(who));
    if (!leave) {
      // The process stops: marked, so that the reconciler enqueues the reply for another worker.
      await this.dispatching
        .markUndispatched({ replyId: wake.replyId, number: wake.number })
        .catch(() => undefined);
      return { outcome: 'nothing_to_do' };
    }
    try {
      return (await this.runOwn(wake, who, stop, leave)) ?? (await this.runWaiting(wake, stop, leave));
    } finally {
      leave();
    }
  }

  /** @returns null where the job is there for another reply */
  private async runOwn(
    { replyId, number }: Wake,
    who: Shareholder | null,
    stop: AbortController,
    onAsking: () => void,
  ): Promise<Result | null> {
    if (!this.shares.isCrowded && this.shares.enter(who)) {
      try {
        const claimed = await this.claims.claim(replyId);
        if (claimed) return await this.run(claimed, stop, onAsking);
      } finally {
        this.leave(who);
      }
    }
    const later = await this.dispatching.postpone(replyId, number);
    if (!later) return null;
    await this.queue.enqueue(later);
    return { outcome: 'nothing_to_do' };
  }

  /** Makes the reply whose turn it is, if there is one that may have a slot. */
  private async runWaiting(wake: Wake, stop: AbortController, onAsking: () => void): Promise<Result> {
    const own = { replyId: wake.replyId, chatbotId: wake.chatbotId ?? null };
    // Again where a slot was let go meanwhile, which woke nobody for this one.
    for (let round = 1, slotsLetGo = -1; slotsLetGo !== this.slotsLetGo && round <= MAX_LOOKS; round++) {
      slotsLetGo = this.slotsLetGo;
      const found = await this.waiting.find(own, { ...this.shares.full, replies: [] });
      for (const candidate of found) {
        if (!this.shares.enter(candidate)) continue;
        try {
          const claimed = await this.claims.claim(candidate.replyId);
          if (!claimed) continue; // by another worker, or another job of this one
          if (candidate.replyId === wake.replyId) return await this.run(claimed, stop, onAsking);
          return await this.run(claimed, stop, onAsking, inOwnTrace);
        } finally {
          this.leave(candidate);
        }
      }
    }
    this.passedOver++;
    this.watch();
    return { outcome: 'nothing_to_do' };
  }

  private async run(
    claimed: Claimed,
    stop: AbortController,
    onAsking: () => void,
    within: typeof inSpan = inSpan,
  ): Promise<Result> {
    const { claim, reply } = claimed;
    this.woken.delete(claim.replyId);
    const attributes = {
      [SpanAttribute.ReplyId]: claim.replyId,
      [SpanAttribute.SessionId]: claim.sessionId,
      [SpanAttribute.Attempt]: claim.attempt,
      ...(reply.request_id !== null && { [SpanAttribute.RequestId]: reply.request_id }),
    };
    return within('reply attempt', { attributes }, () =>
      new ReplyAttempt(this.services, claimed, stop, onAsking).run(),
    );
  }

  /** Lets a slot go, and wakes whoever may have it that was passed over. */
  private leave(who: Shareholder | null): void {
    this.shares.leave(who);
    this.slotsLetGo++;
    if (this.passedOver > 0) this.wake();
  }

  /** As long as somebody may wait, also without a slot that is let go: it may have been let go just before. */
  private watch(): void {
    this.watching ??= setInterval(() => {
      if (this.wakes === 0) this.wake(); // else the database is slow, and more would only wait behind
    }, WATCH_INTERVAL_MS).unref();
  }

  private wake(): void {
    this.wakes++;
    // One after the other: many that end at once leave the connections to those that begin.
    this.waking = this.waking
      .then(() => this.wakeNext())
      .catch((error: unknown) =>
        this.pacedLogger.warn(
          { event: 'reply.wake_failed', err: error },
          'who may have a slot that is free again could not be told: it is looked for again',
        ),
      )
      .finally(() => this.wakes--);
  }

  private stopWatching(): void {
    this.passedOver = 0;
    clearInterval(this.watching ?? undefined);
    this.watching = null;
  }

  private async wakeNext(): Promise<void> {
    const now = performance.now();
    const seen = this.passedOver;
    for (const [replyId, until] of this.woken) if (until < now) this.woken.delete(replyId);
    const { chatbots, owners } = this.shares.full;
    const { isWaiting, next } = await this.waiting.dispatchNext({
      chatbots,
      owners,
      replies: [...this.woken.keys()],
    });
    if (next) {
      this.woken.set(next.replyId, now + WOKEN_FOR_MS);
      await this.queue.enqueue(next);
    } else if (
      !isWaiting &&
      chatbots.length === 0 &&
      owners.length === 0 &&
      this.woken.size === 0 &&
      seen === this.passedOver
    ) {
      this.stopWatching();
    }
  }
}
