import { Global, Logger, Module } from '@nestjs/common';
import type { Pool } from 'pg';
import { Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { POSTGRES_POOL } from '../database/database.module.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { EventStream } from './event-stream.js';
import { PostgresEventStream } from './postgres-event-stream.js';
import { RedisEventStream } from './redis-event-stream.js';

function createEventStream(
  config: Config,
  pool: Pool,
  shutdown: Shutdown,
  { streamDeadlineMs: deadlineMs }: Pick<Timings, 'streamDeadlineMs'>,
): EventStream {
  const logger = new Logger('EventStream');
  const onError = (error: Error, what: string): void => logger.warn({ err: error }, what);
  const stream =
    config.REDIS_URL !== undefined
      ? new RedisEventStream({ url: config.REDIS_URL, prefix: config.REDIS_PREFIX, deadlineMs, onError })
      : new PostgresEventStream({ pool, connectionString: config.DATABASE_URL ?? '', deadlineMs, onError });
  shutdown.register(ShutdownPhase.Close, () => stream.close());
  return stream;
}

@Global()
@Module({
  providers: [
    {
      provide: EventStream,
      inject: [CONFIG, POSTGRES_POOL, Shutdown, TIMINGS],
      useFactory: createEventStream,
    },
  ],
  exports: [EventStream],
})
export class EventsModule {
  constructor(stream: EventStream, readiness: Readiness) {
    readiness.register('event stream', () => stream.ping());
  }
}
