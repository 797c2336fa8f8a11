import { Module } from '@nestjs/common';
import { LlmModule } from '../llm/llm.module.js';
import { ReplyLifecycleModule } from '../conversations/conversations.module.js';
import { QueueModule } from '../queue/queue.module.js';
import { Conversations } from './conversation-reader.js';
import { RepliesProcessor, RepliesWorker } from './reply.processor.js';
import { ReplyGenerator } from './reply-generator.js';

/** The worker's side: jobs become replies. */
@Module({
  imports: [...QueueModule.forWorkers(), LlmModule, ReplyLifecycleModule],
  providers: [Conversations, ReplyGenerator, RepliesProcessor, RepliesWorker],
})
export class RepliesModule {}
