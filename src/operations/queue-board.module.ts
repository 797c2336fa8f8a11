import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { OperationsModule } from './operations.module.js';
import { QueueBoard } from './queue-board.js';

/** The queue, for an operator's eyes. */
@Module({ imports: [ConversationsModule, OperationsModule], providers: [QueueBoard] })
export class QueueBoardModule {}
