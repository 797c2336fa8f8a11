import { Module } from '@nestjs/common';
import { AuthModule } from '../auth/auth.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { LimitsModule } from '../limits/limits.module.js';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { ChatSessionsController } from './chat-sessions.controller.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { GuestSessionsController } from './guest-sessions.controller.js';
import { GuestSessionsService } from './guest-sessions.service.js';
import { Identities } from './identities.js';
import { SessionOpeningService } from './session-opening.service.js';

@Module({
  imports: [AuthModule, DatabaseModule, ConversationsModule, LimitsModule],
  controllers: [ChatSessionsController, GuestSessionsController],
  providers: [Identities, GuestSessionsService, ChatSessionsService, SessionOpeningService],
})
export class ChatSessionsModule {}
