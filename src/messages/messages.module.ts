import { Module } from '@nestjs/common';
import { ChatSessionsModule } from '../chat-sessions/chat-sessions.module.js';
import { ErasureController } from './erasure.controller.js';
import { MessagesController } from './messages.controller.js';
import { MessagesService } from './messages.service.js';
import { RepliesController } from './replies.controller.js';
import { RepliesService } from './replies.service.js';
import { ReplyLifecycleModule } from './reply-lifecycle.module.js';
import { SessionEventsController } from './session-events.controller.js';
import { SessionEventsService } from './session-events.service.js';
import { SessionOpeningService } from './session-opening.service.js';

/** The api's side of conversations. */
@Module({
  imports: [ChatSessionsModule, ReplyLifecycleModule],
  controllers: [MessagesController, RepliesController, SessionEventsController, ErasureController],
  providers: [SessionOpeningService, MessagesService, RepliesService, SessionEventsService],
})
export class MessagesModule {}
