import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { Redis } from 'ioredis';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';

const CONNECT_TIMEOUT_MS = 1_000;

/**
 * In production a process is not ready on a Redis that would throw jobs and events away when its memory is full:
 * nothing would be lost, since the reconciler enqueues the replies again, but they would be late, and nothing would show why.
 */
@Injectable()
export class EvictionPolicy implements OnModuleInit {
  private readonly logger = new Logger(EvictionPolicy.name);
  private isGood = false;
  private isLogged = false;

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'REDIS_URL' | 'isProduction'>,
    private readonly readiness: Readiness,
  ) {}

  onModuleInit(): void {
    const { REDIS_URL: url, isProduction } = this.config;
    if (url !== undefined && isProduction) {
      this.readiness.register('queue (maxmemory-policy noeviction in Redis)', () => this.check(url));
    }
  }

  private async check(url: string): Promise<void> {
    if (this.isGood) return;
    const policy = await readPolicy(url);
    // Managed Redis hides its eviction policy: assume noeviction.
    this.isGood = policy === null || policy === 'noeviction';
    if (this.isGood) return;
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

async function readPolicy(url: string): Promise<string | null> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: () => null,
  });
  redis.on('error', () => undefined); // the call reports it
  try {
    await redis.connect();
    return /maxmemory_policy:(\S+)/.exec(await redis.info('memory'))?.[1] ?? null;
  } finally {
    redis.disconnect();
  }
}
