import { Module } from '@nestjs/common';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { EventsModule } from '../events/events.module.js';
import { LlmModule } from '../llm/llm.module.js';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { QueueModule } from '../queue/queue.module.js';
import { AttemptServices } from './attempt-services.js';
import { CharacteristicChoice } from './characteristic-choice.js';
import { ConversationReader } from './conversation-reader.js';
import { FairShares } from './fair-shares.js';
import { ReplyProcessor } from './reply.processor.js';
import { ReplyWorker } from './reply-worker.js';
import { StartGate } from './start-gate.js';
import { ReplyGenerator } from './reply-generator.js';
import { TokenCounter } from './token-counter.js';

/** The worker's role: takes jobs and generates replies. */
@Module({
  imports: [
    RuntimeModule,
    DatabaseModule,
    EventsModule,
    QueueModule,
    ...QueueModule.forWorkers(),
    LlmModule,
    ConversationsModule,
  ],
  providers: [
    AttemptServices,
    CharacteristicChoice,
    ConversationReader,
    FairShares,
    ReplyGenerator,
    ReplyProcessor,
    ReplyWorker,
    StartGate,
    TokenCounter,
  ],
})
export class WorkerModule {}
