import { Injectable } from '@nestjs/common';
import { GatedQueue, QueueParts } from '../queue/gated-queue.js';
import { inOwnTrace, SpanAttribute } from '../tracing/spans.js';
import { COUNT_TOKENS_OPTIONS, jobIdOf, REPLY_QUEUE, type ReplyJobs } from './reply-jobs.js';
import { ReplyDispatching } from './reply-store/dispatching.js';
import type { Dispatch } from './reply-store/transitions.js';

/** Enqueues replies for a worker. A reply whose job the queue did not take is enqueued again by the reconciler. */
@Injectable()
export class ReplyQueue extends GatedQueue<ReplyJobs> {
  /** The reconciler enqueues many at once. */
  constructor(
    parts: QueueParts,
    private readonly dispatching: ReplyDispatching,
  ) {
    super(REPLY_QUEUE, parts);
  }

  /** Never throws and never waits long: what the queue did not take, the reconciler enqueues. */
  async enqueue({ replyId, sessionId, chatbotId, number, requestId, delayMs }: Dispatch): Promise<void> {
    try {
      await this.add(
        'generate',
        { version: 1, replyId, sessionId, chatbotId, number, requestId },
        { jobId: jobIdOf(replyId, number), ...(delayMs > 0 && { delay: delayMs }) },
      );
    } catch (error) {
      this.pacedLogger.warn(
        { event: 'reply.enqueue_failed', err: error, replyId },
        'the queue did not take the job of a reply: the reconciler enqueues it again',
      );
      await this.dispatching
        .markUndispatched({ replyId, number })
        .catch((cause: unknown) =>
          this.logger.warn(
            { event: 'reply.mark_undispatched_failed', err: cause, replyId },
            'the row of a reply could not note that the queue did not take its job: the reconciler enqueues it again, only later',
          ),
        );
    }
  }

  /**
   * Enqueues the reply that waited behind another one, which has ended; null: none did. Another request caused
   * it, so it begins a trace of its own instead of continuing the current one.
   */
  async enqueueNext(next: Dispatch | null): Promise<void> {
    if (!next) return;
    const attributes = {
      [SpanAttribute.ReplyId]: next.replyId,
      [SpanAttribute.SessionId]: next.sessionId,
      ...(next.requestId !== null && { [SpanAttribute.RequestId]: next.requestId }),
    };
    await inOwnTrace('next reply', { attributes }, () => this.enqueue(next));
  }

  /** Has a worker count the tokens of what owners wrote. Nothing new where that is to come. Never throws. */
  async enqueueTokenCount(): Promise<void> {
    try {
      await this.add('count_tokens', { version: 1 }, COUNT_TOKENS_OPTIONS);
    } catch (error) {
      this.pacedLogger.warn(
        { event: 'token_count.enqueue_failed', err: error },
        'the queue did not take the job of counting tokens: the reconciler enqueues it again',
      );
    }
  }

  /**
   * Removes every job that there ever was of a reply.
   *
   * @returns false where one is still being worked on: it can be removed once it has ended
   */
  async removeJobsOf(replyId: string, dispatchCount: number): Promise<boolean> {
    let isGone = true;
    for (let number = 1; number <= dispatchCount; number++) {
      isGone = (await this.removeJob(jobIdOf(replyId, number))) && isGone;
    }
    return isGone;
  }
}
