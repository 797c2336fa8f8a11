import { Module } from '@nestjs/common';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { MetricsModule } from '../metrics/metrics.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { LimitsModule } from '../limits/limits.module.js';
import { EventsModule } from '../events/events.module.js';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { EventStreamMetrics } from './event-stream-metrics.js';
import { SessionEventsController } from './session-events.controller.js';
import { SessionEventsService } from './session-events.service.js';
import { SessionStreams } from './session-streams.js';

@Module({
  imports: [RuntimeModule, MetricsModule, DatabaseModule, EventsModule, LimitsModule, ConversationsModule],
  controllers: [SessionEventsController],
  providers: [SessionEventsService, SessionStreams, EventStreamMetrics],
  exports: [SessionEventsService, SessionStreams],
})
export class SessionEventsModule {}
