import { Module, type OnModuleInit } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { LimitStore } from '../limits/limit-store.js';
import { LimitsModule } from '../limits/limits.module.js';
import { OperationsModule } from './operations.module.js';
import { OperatorDoor } from './operator-door.js';
import { QueueBoard } from './queue-board.js';
import { OperatorsRepliesController } from './replies.controller.js';

/** What an operator's own eyes are for, by a password: the queue, and what happened to a reply. */
@Module({
  imports: [ConversationsModule, LimitsModule, OperationsModule],
  controllers: [OperatorsRepliesController],
  providers: [QueueBoard],
})
export class OperatorsModule implements OnModuleInit {
  constructor(
    private readonly door: OperatorDoor,
    private readonly limits: LimitStore,
  ) {}

  onModuleInit(): void {
    this.door.shareBy(this.limits);
  }
}
