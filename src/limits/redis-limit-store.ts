import { Cluster, type Redis } from 'ioredis';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { connectCluster, disconnectCluster, isOnCluster } from '../redis/redis-cluster.js';
import { connectRedis, type RedisSettings } from '../redis/redis-connection.js';
import { type Exceeded, type Hit, LimitStore } from './limit-store.js';

/** Deadline of one command, in milliseconds. */
const COMMAND_TIMEOUT_MS = 500;

/** Counts in Redis. */
export class RedisLimitStore extends LimitStore {
  private readonly client: Redis | Cluster;
  /** One for each limit, by what it says: few, since limits are settings. */
  private readonly limiters = new Map<string, RateLimiterRedis>();

  /** @param prefix of the keys */
  constructor(
    settings: RedisSettings,
    private readonly prefix: string,
    onError: (error: Error) => void,
  ) {
    super();
    const options = {
      enableOfflineQueue: false,
      maxRetriesPerRequest: 1,
      commandTimeout: COMMAND_TIMEOUT_MS,
      connectTimeout: COMMAND_TIMEOUT_MS * 4,
    };
    this.client = isOnCluster(settings)
      ? connectCluster(settings, options)
      : connectRedis(settings, { ...options, lazyConnect: true });
    this.client.on('error', onError);
    this.client.connect().catch(() => undefined); // it tries again by itself, and hits fail meanwhile
  }

  override async take(hits: readonly Hit[]): Promise<Exceeded | null> {
    for (const [index, hit] of hits.entries()) {
      try {
        await this.limiterOf(hit).consume(hit.key);
      } catch (refusal) {
        if (!(refusal instanceof RateLimiterRes)) throw refusal;
        return { index, retryAfterMs: Math.max(1, refusal.msBeforeNext) };
      }
    }
    return null;
  }

  override async close(): Promise<void> {
    if (this.client instanceof Cluster) disconnectCluster(this.client);
    else this.client.disconnect();
  }

  private limiterOf({ max, windowSeconds }: Hit): RateLimiterRedis {
    const name = `${max}/${windowSeconds}`;
    let limiter = this.limiters.get(name);
    if (!limiter) {
      limiter = new RateLimiterRedis({
        storeClient: this.client,
        keyPrefix: `${this.prefix}:limit`,
        points: max,
        duration: windowSeconds,
        inMemoryBlockOnConsumed: max + 1, // a flood is refused without asking Redis for each
      });
      this.limiters.set(name, limiter);
    }
    return limiter;
  }
}
