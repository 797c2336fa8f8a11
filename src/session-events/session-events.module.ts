import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { SessionEventsController } from './session-events.controller.js';
import { SessionEventsService } from './session-events.service.js';

@Module({
  imports: [ConversationsModule],
  controllers: [SessionEventsController],
  providers: [SessionEventsService],
})
export class SessionEventsModule {}
