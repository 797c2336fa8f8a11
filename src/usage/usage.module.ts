import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { UsageController } from './usage.controller.js';
import { UsageService } from './usage.service.js';

/** What chatbots use of models, for their owners. */
@Module({
  imports: [ConversationsModule, DatabaseModule],
  controllers: [UsageController],
  providers: [UsageService],
})
export class UsageModule {}
