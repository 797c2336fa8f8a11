import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { MessagesModule } from '../messages/messages.module.js';
import { RepliesModule } from '../replies/replies.module.js';
import { SessionEventsModule } from '../session-events/session-events.module.js';
import { ChatsController } from './chats.controller.js';
import { ChatsService } from './chats.service.js';
import { UiMessagesService } from './ui-messages.service.js';

/** The protocol of the AI SDK's `useChat`, on top of what messages, replies and session events do. */
@Module({
  imports: [DatabaseModule, ConversationsModule, MessagesModule, RepliesModule, SessionEventsModule],
  controllers: [ChatsController],
  providers: [ChatsService, UiMessagesService],
})
export class AiSdkModule {}
