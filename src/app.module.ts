import { type DynamicModule, Module } from '@nestjs/common';
import { ormOptions } from '../mikro-orm.config.js';
import { ConfigModule } from './config/config.module.js';
import { type Config, Role } from './config/env.js';
import { DatabaseModule } from './database/database.module.js';
import { HttpModule } from './http/http.module.js';
import { LoggingModule } from './logging/logging.module.js';
import { OperationsModule } from './operations/operations.module.js';
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
        DatabaseModule.withOptions(ormOptions),
        HttpModule.forRole(config.role),
        OperationsModule,
        ...(config.role === Role.Worker ? [] : [(await import('./api.module.js')).ApiModule]),
        ...(config.role === Role.Api ? [] : [(await import('./worker/worker.module.js')).WorkerModule]),
      ],
    };
  }
}
