import { Cluster, type Redis } from 'ioredis';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { connectCluster, disconnectCluster, isOnCluster } from '../redis/redis-cluster.js';
import { connectRedis, type RedisSettings } from '../redis/redis-connection.js';
import { type Exceeded, type Held, type Hit, type Hold, HOLD_SECONDS, LimitStore } from './limit-store.js';

/** Deadline of one command, in milliseconds. */
const COMMAND_TIMEOUT_MS = 500;

/**
 * Takes a place: KEYS[1] the limit, a sorted set of holders by when their place is free again; ARGV the holder, the most, and
 * how long a place is kept, in seconds. The clock is Redis's, since those of processes differ. @returns 1 where there was one
 */
const HOLD = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1`;
/** Keeps a place: KEYS[1] the limit; ARGV the holder, and how long. */
const KEEP = `
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'XX', time[1] + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1`;

/** How many commands are under way at once. */
const COMMANDS_AT_ONCE = 200;

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

  /** One limit after the other, since the nodes of a cluster share no script. */
  override async hold(holds: readonly Hold[], holder: string): Promise<number | null> {
    for (const [index, { key, max }] of holds.entries()) {
      if ((await this.client.eval(HOLD, 1, this.keyOf(key), holder, max, HOLD_SECONDS)) === 1) continue;
      await this.letGo([{ keys: holds.slice(0, index).map((before) => before.key), holder }]);
      return index;
    }
    return null;
  }

  override async keep(held: readonly Held[]): Promise<void> {
    await this.forEach(held, (key, holder) =>
      this.client.eval(KEEP, 1, this.keyOf(key), holder, HOLD_SECONDS),
    );
  }

  override async letGo(held: readonly Held[]): Promise<void> {
    await this.forEach(held, (key, holder) => this.client.zrem(this.keyOf(key), holder));
  }

  /** Some at once: there may be thousands. */
  private async forEach(
    held: readonly Held[],
    work: (key: string, holder: string) => Promise<unknown>,
  ): Promise<void> {
    const places = held.flatMap(({ keys, holder }) => keys.map((key) => ({ key, holder })));
    for (let from = 0; from < places.length; from += COMMANDS_AT_ONCE) {
      const some = places.slice(from, from + COMMANDS_AT_ONCE);
      await Promise.all(some.map(({ key, holder }) => work(key, holder)));
    }
  }

  override async close(): Promise<void> {
    if (this.client instanceof Cluster) disconnectCluster(this.client);
    else this.client.disconnect();
  }

  private keyOf(key: string): string {
    return `${this.prefix}:held:${key}`;
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
