import { Module } from '@nestjs/common';
import { ChatSessionsModule } from '../chat-sessions/chat-sessions.module.js';
import { ErasureController } from '../erasure/erasure.controller.js';
import { MessagesController } from './messages.controller.js';
import { MessagesService } from './messages.service.js';
import { RepliesController } from '../replies/replies.controller.js';
import { RepliesService } from '../replies/replies.service.js';
import { ReplyLifecycleModule } from '../conversations/conversations.module.js';
import { SessionEventsController } from '../session-events/session-events.controller.js';
import { SessionEventsService } from '../session-events/session-events.service.js';
import { SessionOpeningService } from '../chat-sessions/session-opening.service.js';

/** The api's side of conversations. */
@Module({
  imports: [ChatSessionsModule, ReplyLifecycleModule],
  controllers: [MessagesController, RepliesController, SessionEventsController, ErasureController],
  providers: [SessionOpeningService, MessagesService, RepliesService, SessionEventsService],
})
export class MessagesModule {}
