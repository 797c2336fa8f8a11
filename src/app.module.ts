import { type DynamicModule, Module } from '@nestjs/common';
import { ormOptions } from '../mikro-orm.config.js';
import { ChatSessionsModule } from './chat-sessions/chat-sessions.module.js';
import { ChatbotsModule } from './chatbots/chatbots.module.js';
import { ConfigModule } from './config/config.module.js';
import { type Config, Role } from './config/env.js';
import { DatabaseModule } from './database/database.module.js';
import { ErasureModule } from './erasure/erasure.module.js';
import { HttpModule } from './http/http.module.js';
import { LoggingModule } from './logging/logging.module.js';
import { MessagesModule } from './messages/messages.module.js';
import { OperationsModule } from './operations/operations.module.js';
import { QueueBoardModule } from './operations/queue-board.module.js';
import { RepliesModule } from './replies/replies.module.js';
import type { Timings } from './runtime/timings.js';
import { SessionEventsModule } from './session-events/session-events.module.js';
import { WorkerModule } from './worker/worker.module.js';

/** Everything that is spoken over HTTP. It enqueues jobs, and works on none. */
const API = [
  ChatbotsModule,
  ChatSessionsModule,
  MessagesModule,
  RepliesModule,
  SessionEventsModule,
  ErasureModule,
  QueueBoardModule,
];

@Module({})
export class AppModule {
  static forRole(config: Config, timings: Partial<Timings>): DynamicModule {
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config, timings),
        LoggingModule.forRoot(config),
        DatabaseModule.withOptions(ormOptions),
        HttpModule.forRole(config.role),
        OperationsModule,
        ...(config.role === Role.Worker ? [] : API),
        ...(config.role === Role.Api ? [] : [WorkerModule]),
      ],
    };
  }
}
