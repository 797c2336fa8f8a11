import { randomBytes } from 'node:crypto';
import { Cluster, Redis } from 'ioredis';

/** The Redis that the tests share, or the cluster that they were told to use, as settings of a product. */
export const redisSettings = (): Record<string, string> => {
  const nodes = process.env['ASSISTLY_TEST_CLUSTER_NODES'];
  return {
    REDIS_URL: process.env['ASSISTLY_TEST_REDIS_URL'] ?? '',
    REDIS_PREFIX: `test-${randomBytes(6).toString('hex')}`,
    ...(nodes !== undefined && { REDIS_CLUSTER_NODES: nodes }),
  };
};

/** Connections to each of its primaries; ended by {@link disconnect}. */
export class TestRedis {
  private constructor(
    readonly primaries: Redis[],
    /** For commands that name a key, on whichever primary. */
    readonly any: Redis | Cluster,
  ) {}

  static async connect(): Promise<TestRedis> {
    const url = process.env['ASSISTLY_TEST_REDIS_URL'] ?? '';
    if (process.env['ASSISTLY_TEST_CLUSTER_NODES'] === undefined) {
      const redis = new Redis(url);
      return new TestRedis([redis], redis);
    }
    const cluster = new Cluster([url], { lazyConnect: true });
    await cluster.connect();
    return new TestRedis(cluster.nodes('master'), cluster);
  }

  /** All keys of an installation; on a cluster those of the queue have their prefix in braces. */
  async keysOf(prefix: string): Promise<string[]> {
    const found = await Promise.all(this.primaries.map((redis) => redis.keys(`*${prefix}:*`)));
    return found.flat();
  }

  async valueOf(key: string): Promise<unknown> {
    switch (await this.any.type(key)) {
      case 'hash':
        return this.any.hgetall(key);
      case 'list':
        return this.any.lrange(key, 0, -1);
      case 'set':
        return this.any.smembers(key);
      case 'zset':
        return this.any.zrange(key, '0', '-1');
      case 'stream':
        return this.any.xrange(key, '-', '+');
      default:
        return this.any.get(key);
    }
  }

  /** Channels that somebody listens to. */
  async channels(pattern: string): Promise<unknown[]> {
    const found = await Promise.all(
      this.primaries.flatMap((primary) => [
        primary.pubsub('CHANNELS', pattern),
        primary.pubsub('SHARDCHANNELS', pattern),
      ]),
    );
    return found.flat();
  }

  disconnect(): void {
    this.any.disconnect();
  }
}
