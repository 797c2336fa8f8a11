import { Logger, Module, type OnModuleInit } from '@nestjs/common';
import type { Pool } from 'pg';
import { PacedLogger } from '../runtime/paced-logger.js';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { DatabaseModule } from '../database/database.module.js';
import { POSTGRES_POOL } from '../database/postgres-pool.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { EventStream, type OnError } from './event-stream.js';
import { PostgresEventStream } from './postgres-event-stream.js';
import { RedisEventStream } from './redis-event-stream.js';

function createEventStream(
  config: Config,
  pool: Pool,
  { streamDeadlineMs: deadlineMs }: Pick<Timings, 'streamDeadlineMs'>,
  readiness: Readiness,
): EventStream {
  const logger = new Logger('EventStream');
  const pacedLogger = new PacedLogger(logger);
  const onError: OnError = (error, event, message) => pacedLogger.warn({ event, err: error }, message);
  if (config.REDIS_URL !== undefined) {
    return new RedisEventStream({ settings: config, prefix: config.REDIS_PREFIX, deadlineMs, onError });
  }
  const stream: PostgresEventStream = new PostgresEventStream({
    pool,
    databaseUrl: config.DATABASE_URL ?? '',
    deadlineMs,
    onError,
    onPooled: () =>
      readiness.register('notifications', async () => {
        if (await stream.provesNotifications()) return;
        throw new MissingPartError(
          'they do not arrive: DATABASE_URL leads through a transaction pooler, which the product can use with Redis (REDIS_URL) alone; without Redis, connect to PostgreSQL itself, or by a pooler in session mode',
        );
      }),
  });
  return stream;
}

@Module({
  imports: [RuntimeModule, DatabaseModule],
  providers: [
    {
      provide: EventStream,
      inject: [CONFIG, POSTGRES_POOL, TIMINGS, Readiness],
      useFactory: createEventStream,
    },
  ],
  exports: [EventStream],
})
export class EventsModule implements OnModuleInit {
  constructor(
    private readonly stream: EventStream,
    private readonly readiness: Readiness,
    private readonly shutdown: Shutdown,
  ) {}

  onModuleInit(): void {
    if (this.stream instanceof PostgresEventStream) this.stream.listen();
    this.readiness.register('event stream', () => this.stream.ping());
    this.shutdown.register(ShutdownPhase.Close, () => this.stream.close());
  }
}
