import { Module } from '@nestjs/common';
import { DatabaseModule } from '../database/database.module.js';
import { LimitsModule } from '../limits/limits.module.js';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { ChatSessionsController } from './chat-sessions.controller.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { SessionOpeningService } from './session-opening.service.js';

@Module({
  imports: [DatabaseModule, ConversationsModule, LimitsModule],
  controllers: [ChatSessionsController],
  providers: [ChatSessionsService, SessionOpeningService],
})
export class ChatSessionsModule {}
