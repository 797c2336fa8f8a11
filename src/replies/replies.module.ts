import { Module } from '@nestjs/common';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { EventsModule } from '../events/events.module.js';
import { LimitsModule } from '../limits/limits.module.js';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { RepliesController } from './replies.controller.js';
import { RepliesService } from './replies.service.js';

/** The api's side of replies; the worker's, which generates them, is in worker/. */
@Module({
  imports: [RuntimeModule, DatabaseModule, EventsModule, ConversationsModule, LimitsModule],
  controllers: [RepliesController],
  providers: [RepliesService],
  exports: [RepliesService],
})
export class RepliesModule {}
