import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { OperationsModule } from './operations.module.js';
import { QueueBoard } from './queue-board.js';
import { OperatorsRepliesController } from './replies.controller.js';

/** What an operator's own eyes are for, by a password: the queue, and what happened to a reply. */
@Module({
  imports: [ConversationsModule, OperationsModule],
  controllers: [OperatorsRepliesController],
  providers: [QueueBoard],
})
export class OperatorsModule {}
