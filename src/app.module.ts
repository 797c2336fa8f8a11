import { type DynamicModule, Module } from '@nestjs/common';
import { ormOptions } from '../mikro-orm.config.js';
import { ConfigModule } from './config/config.module.js';
import { type Config, Role } from './config/env.js';
import { DatabaseModule } from './database/database.module.js';
import { EventsModule } from './events/events.module.js';
import { LoggingModule } from './logging/logging.module.js';
import { MetricsModule } from './metrics/metrics.module.js';
import { OperationsModule } from './operations/operations.module.js';
import { QueueModule } from './queue/queue.module.js';
import { RuntimeModule } from './runtime/runtime.module.js';
import type { Timings } from './runtime/timings.js';

@Module({})
export class AppModule {
  /** Loads the code of the role alone: an api has no use for the tokenizer's table, nor a worker for the routes. */
  static async forRole(config: Config, timings: Partial<Timings>): Promise<DynamicModule> {
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config, timings),
        LoggingModule.forRoot(config),
        RuntimeModule,
        DatabaseModule.forRoot(ormOptions),
        EventsModule,
        QueueModule,
        MetricsModule,
        OperationsModule,
        ...(config.role === Role.Worker ? [] : [(await import('./api.module.js')).ApiModule]),
        ...(config.role === Role.Api ? [] : [(await import('./worker/worker.module.js')).WorkerModule]),
      ],
    };
  }
}
