import { Logger, Module, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Database } from '../database/database.js';
import { DatabaseModule } from '../database/database.module.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { LimitStore } from './limit-store.js';
import { PostgresLimitStore } from './postgres-limit-store.js';
import { RateLimits } from './rate-limits.js';
import { RedisLimitStore } from './redis-limit-store.js';

function createLimitStore(config: Config, database: Database): LimitStore {
  // Where limits are off nothing is counted, and no connection is made for it.
  if (config.REDIS_URL === undefined || !config.LIMITS_ENABLED) return new PostgresLimitStore(database);
  const pacedLogger = new PacedLogger(new Logger('LimitStore'));
  return new RedisLimitStore(config, config.REDIS_PREFIX, (error) =>
    pacedLogger.warn(
      { event: 'limits.connection_failed', err: error },
      'the connection of the store of limits reports an error of Redis and tries again by itself',
    ),
  );
}

/** The limits of what strangers, guests and owners may do. */
@Module({
  imports: [RuntimeModule, DatabaseModule],
  providers: [{ provide: LimitStore, inject: [CONFIG, Database], useFactory: createLimitStore }, RateLimits],
  exports: [RateLimits, LimitStore],
})
export class LimitsModule implements OnModuleInit {
  constructor(
    private readonly store: LimitStore,
    private readonly limits: RateLimits,
    private readonly shutdown: Shutdown,
  ) {}

  onModuleInit(): void {
    this.shutdown.register(ShutdownPhase.Close, async () => {
      // The streams have ended: their clients come back to other processes, and need the places.
      await this.limits.settle();
      await this.store.close();
    });
  }
}
