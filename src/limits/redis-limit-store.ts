import { Cluster, type Redis } from 'ioredis';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { connectCluster, disconnectCluster, isOnCluster } from '../redis/redis-cluster.js';
import { connectRedis, type RedisSettings } from '../redis/redis-connection.js';
import { type Count, type Held, type Hit, type Hold, HOLD_SECONDS, LimitStore } from './limit-store.js';

/** Deadline of one command, in milliseconds. */
const COMMAND_TIMEOUT_MS = 500;

/**
 * Takes a place: KEYS[1] the limit, a sorted set of holders by when their place is free again; ARGV the holder, the most, and
 * how long a place is kept, in seconds. The clock is Redis's, since those of processes differ. @returns how many are in use with
 * this one: more than the most where there was no place
 */
const HOLD = `
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local used = redis.call('ZCARD', KEYS[1]) + 1
if used > tonumber(ARGV[2]) then return used end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return used`;
/** Keeps a place: KEYS[1] the limit; ARGV the holder, and how long. */
const KEEP = `
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'XX', time[1] + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1`;

/** How many commands are under way at once. */
const COMMANDS_AT_ONCE = 200;
/** How many limits are known, each by how much in which time. */
const MAX_LIMITERS = 1_000;

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

  override async take(hits: readonly Hit[]): Promise<Count[]> {
    const counts: Count[] = [];
    for (const hit of hits) {
      const count = await this.count(hit);
      counts.push(count);
      if (count.hits > hit.max) break;
    }
    return counts;
  }

  override async look(hit: Hit): Promise<Count | null> {
    const count = await this.limiterOf(hit).get(hit.key);
    return count && { hits: count.consumedPoints, resetMs: Math.max(1, count.msBeforeNext) };
  }

  private async count(hit: Hit): Promise<Count> {
    try {
      const { consumedPoints, msBeforeNext } = await this.limiterOf(hit).consume(hit.key);
      return { hits: consumedPoints, resetMs: Math.max(1, msBeforeNext) };
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      // One that Redis was not asked about says of no number.
      return { hits: hit.max + 1, resetMs: Math.max(1, refusal.msBeforeNext) };
    }
  }

  /** One limit after the other, since the nodes of a cluster share no script. */
  override async hold(holds: readonly Hold[], holder: string): Promise<number[]> {
    const used: number[] = [];
    for (const { key, max } of holds) {
      used.push(Number(await this.client.eval(HOLD, 1, this.keyOf(key), holder, max, HOLD_SECONDS)));
      if (used.at(-1)! <= max) continue;
      await this.letGo([{ keys: holds.slice(0, used.length - 1).map((before) => before.key), holder }]);
      break;
    }
    return used;
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
      // One for each limit that a chatbot has, too: what is forgotten is made again.
      if (this.limiters.size >= MAX_LIMITERS) this.limiters.clear();
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
