import { Module } from '@nestjs/common';
import { Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { Backlog } from './backlog.js';
import { ErasureService } from './erasure.service.js';
import { ReplyEventPublisher } from './reply-event-publisher.js';
import { ReplyCancellation } from './reply-cancellation.js';
import { ReplyLifecycle } from './reply-lifecycle.js';
import { ReplyMetrics } from './reply-metrics.js';
import { ReplyQueue } from './reply-queue.js';
import { SessionAccess } from './session-access.js';
import { Reconciler } from './reconciler.js';

/** What both roles share about a conversation: its rows and their transitions, its jobs, its events, and what puts them right. */
@Module({
  providers: [
    ReplyLifecycle,
    ReplyQueue,
    ReplyEventPublisher,
    ReplyCancellation,
    ErasureService,
    Reconciler,
    Backlog,
    SessionAccess,
    ReplyMetrics,
  ],
  exports: [
    ReplyLifecycle,
    ReplyQueue,
    ReplyEventPublisher,
    ReplyCancellation,
    ErasureService,
    SessionAccess,
    ReplyMetrics,
  ],
})
export class ConversationsModule {
  constructor(queue: ReplyQueue, shutdown: Shutdown, readiness: Readiness) {
    readiness.register('queue', () => queue.ping());
    shutdown.register(ShutdownPhase.Close, () => queue.close());
  }
}
