import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { RepliesController } from './replies.controller.js';
import { RepliesService } from './replies.service.js';

/** The api's side of replies; the worker's, which generates them, is in worker/. */
@Module({
  imports: [ConversationsModule],
  controllers: [RepliesController],
  providers: [RepliesService],
})
export class RepliesModule {}
