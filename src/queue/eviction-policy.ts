import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { connectRedis, type RedisSettings } from '../redis/redis-connection.js';

const CONNECT_TIMEOUT_MS = 1_000;

/** After so long a good answer is asked for again, in milliseconds: a failover may have brought another server. */
const FRESH_MS = 60_000;

/**
 * In production a process is not ready on a Redis that would throw jobs and events away when its memory is full:
 * nothing would be lost, since the reconciler enqueues the replies again, but they would be late, and nothing would show why.
 */
@Injectable()
export class EvictionPolicy implements OnModuleInit {
  private readonly logger = new Logger(EvictionPolicy.name);
  private goodUntil = -Infinity;
  private isLogged = false;

  constructor(
    @Inject(CONFIG) private readonly config: RedisSettings & Pick<Config, 'isProduction'>,
    private readonly readiness: Readiness,
  ) {}

  onModuleInit(): void {
    if (this.config.REDIS_URL !== undefined && this.config.isProduction) {
      this.readiness.register('queue (maxmemory-policy noeviction in Redis)', () => this.check());
    }
  }

  private async check(): Promise<void> {
    if (performance.now() < this.goodUntil) return;
    const policy = await readPolicy(this.config);
    // Managed Redis hides its eviction policy: assume noeviction.
    if (policy === null || policy === 'noeviction') {
      this.goodUntil = performance.now() + FRESH_MS;
      return;
    }
    if (!this.isLogged) {
      this.logger.error(
        { event: 'redis.eviction_policy_refused', policy },
        `Redis has the maxmemory-policy ${policy} and would delete jobs when its memory is full, so this process is not ready: set it to noeviction`,
      );
      this.isLogged = true;
    }
    throw new MissingPartError(`the maxmemory-policy is ${policy}`);
  }
}

async function readPolicy(settings: RedisSettings): Promise<string | null> {
  const redis = connectRedis(settings, {
    lazyConnect: true,
    enableReadyCheck: false, // it asks for the same, and warns on the console where it may not
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
  });
  redis.on('error', () => undefined); // the call reports it
  try {
    await redis.connect();
    return /maxmemory_policy:(\S+)/.exec(await redis.info('memory'))?.[1] ?? null;
  } finally {
    redis.disconnect();
  }
}
