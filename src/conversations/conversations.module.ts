import { Module } from '@nestjs/common';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { MetricsModule } from '../metrics/metrics.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { EventsModule } from '../events/events.module.js';
import { QueueModule } from '../queue/queue.module.js';
import { Backlog } from './backlog.js';
import { ErasureService } from './erasure.service.js';
import { ReplyEventPublisher } from './reply-event-publisher.js';
import { ReplyCancellation } from './reply-cancellation.js';
import { ReplyCancelling } from './reply-store/cancelling.js';
import { ReplyClaims } from './reply-store/claims.js';
import { ReplyDispatching } from './reply-store/dispatching.js';
import { ReplyPosting } from './reply-store/posting.js';
import { ReplyPublication } from './reply-store/publication.js';
import { ReplyReconciliation } from './reply-store/reconciliation.js';
import { ReplyUsage } from './reply-store/usage.js';
import { ReplyWaiting } from './reply-store/waiting.js';
import { ReplyTransitions } from './reply-store/transitions.js';
import { ReplyLives } from './reply-life.js';
import { ReplyMetrics } from './reply-metrics.js';
import { ReplyQueue } from './reply-queue.js';
import { SessionAccess } from './session-access.js';
import { Reconciler } from './reconciler.js';

/** What both roles share about a conversation: its rows and their transitions, its jobs, its events, and what puts them right. */
@Module({
  imports: [RuntimeModule, MetricsModule, DatabaseModule, EventsModule, QueueModule],
  providers: [
    ReplyTransitions,
    ReplyPosting,
    ReplyClaims,
    ReplyCancelling,
    ReplyDispatching,
    ReplyPublication,
    ReplyReconciliation,
    ReplyUsage,
    ReplyWaiting,
    ReplyQueue,
    ReplyEventPublisher,
    ReplyCancellation,
    ErasureService,
    Reconciler,
    Backlog,
    SessionAccess,
    ReplyMetrics,
    ReplyLives,
  ],
  exports: [
    ReplyPosting,
    ReplyClaims,
    ReplyDispatching,
    ReplyQueue,
    ReplyEventPublisher,
    ReplyCancellation,
    ErasureService,
    SessionAccess,
    ReplyMetrics,
    ReplyLives,
    ReplyUsage,
    ReplyWaiting,
  ],
})
export class ConversationsModule {}
