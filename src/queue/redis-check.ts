import { Inject, Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { Redis, type RedisOptions } from 'ioredis';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { connectCluster, disconnectCluster, isOnCluster, nodeOptions } from '../redis/redis-cluster.js';
import { connectRedis, type RedisSettings } from '../redis/redis-connection.js';

const CONNECT_TIMEOUT_MS = 1_000;

/** After so long a good answer is asked for again, in milliseconds: a failover may have brought another server. */
const FRESH_MS = 60_000;

const CONNECTION: RedisOptions = {
  lazyConnect: true,
  enableReadyCheck: false, // it asks for the same, and warns on the console where it may not
  connectTimeout: CONNECT_TIMEOUT_MS,
  commandTimeout: CONNECT_TIMEOUT_MS,
  retryStrategy: () => null,
};

/** @returns what keeps a Redis from being fit, for an operator; null: nothing */
type Look = (settings: RedisSettings) => Promise<string | null>;

/**
 * What a Redis says of itself and no command of ours can make up for.
 *
 * A cluster is reached by way of REDIS_CLUSTER_NODES only, and nothing else is: the commands of a queue would fail one by
 * one, each with another error. And in production a process is not ready on a Redis that would throw jobs and events away
 * when its memory is full: nothing would be lost, since the reconciler enqueues the replies again, but they would be late,
 * and nothing would show why.
 */
@Injectable()
export class RedisCheck implements OnModuleInit {
  private readonly logger = new Logger(RedisCheck.name);
  private readonly goodUntil = new Map<Look, number>();
  private readonly logged = new Set<string>();

  constructor(
    @Inject(CONFIG) private readonly config: RedisSettings & Pick<Config, 'isProduction'>,
    private readonly readiness: Readiness,
  ) {}

  onModuleInit(): void {
    if (this.config.REDIS_URL === undefined) return;
    const checkMode = () =>
      this.check(lookAtMode, (reason) =>
        this.logger.error({ event: 'redis.mode_refused' }, `this process is not ready: ${reason}`),
      );
    this.readiness.register('Redis as the settings name it', checkMode);
    checkMode().catch(() => undefined); // at once, for the log
    if (!this.config.isProduction) return;
    this.readiness.register('queue (maxmemory-policy noeviction in Redis)', () =>
      this.check(lookAtEvictionPolicy, (reason) =>
        this.logger.error({ event: 'redis.eviction_policy_refused' }, `this process is not ready: ${reason}`),
      ),
    );
  }

  /** @param log called once for each reason */
  private async check(look: Look, log: (reason: string) => void): Promise<void> {
    if (performance.now() < (this.goodUntil.get(look) ?? -Infinity)) return;
    const reason = await look(this.config);
    if (reason === null) {
      this.goodUntil.set(look, performance.now() + FRESH_MS);
      return;
    }
    if (!this.logged.has(reason)) log(reason);
    this.logged.add(reason);
    throw new MissingPartError(reason);
  }
}

async function lookAtMode(settings: RedisSettings): Promise<string | null> {
  const isClusterNamed = isOnCluster(settings);
  const ask = async (redis: Redis): Promise<boolean> =>
    /redis_mode:cluster/.test(await infoOf(redis, 'server'));
  const isCluster = isClusterNamed
    ? await firstAnswer(
        settings.REDIS_CLUSTER_NODES.map((node) =>
          ask(new Redis({ ...nodeOptions(settings), ...CONNECTION, ...node })),
        ),
      )
    : await ask(connectRedis(settings, { ...CONNECTION, sentinelRetryStrategy: () => null }));
  if (isCluster === isClusterNamed) return null;
  return isCluster
    ? 'REDIS_URL names a node of a Redis Cluster: name its nodes in REDIS_CLUSTER_NODES'
    : 'REDIS_CLUSTER_NODES names a Redis that is no cluster: name it in REDIS_URL alone';
}

async function lookAtEvictionPolicy(settings: RedisSettings): Promise<string | null> {
  // Managed Redis hides its eviction policy: assume noeviction.
  const bad = (await policiesOf(settings)).find((policy) => policy !== null && policy !== 'noeviction');
  if (bad === undefined) return null;
  return `Redis has the maxmemory-policy ${bad} and would delete jobs when its memory is full: set it to noeviction`;
}

/** Of each primary; null where it does not say. */
async function policiesOf(settings: RedisSettings): Promise<(string | null)[]> {
  const ask = async (redis: Redis): Promise<string | null> =>
    /maxmemory_policy:(\S+)/.exec(await infoOf(redis, 'memory'))?.[1] ?? null;
  if (!isOnCluster(settings)) {
    return [await ask(connectRedis(settings, { ...CONNECTION, sentinelRetryStrategy: () => null }))];
  }
  const cluster = connectCluster(settings, CONNECTION);
  cluster.on('error', () => undefined); // the call reports it
  try {
    await cluster.connect();
    return await Promise.all(cluster.nodes('master').map((node) => ask(node.duplicate(CONNECTION))));
  } finally {
    disconnectCluster(cluster);
  }
}

/** @throws the first node's error where none answers */
const firstAnswer = <T>(asked: Promise<T>[]): Promise<T> =>
  Promise.any(asked).catch((error: AggregateError) => {
    throw error.errors[0];
  });

/** What a server says of itself, on a connection that is made for it. */
async function infoOf(redis: Redis, section: string): Promise<string> {
  redis.on('error', () => undefined); // the call reports it
  try {
    await redis.connect();
    return await redis.info(section);
  } finally {
    redis.disconnect();
  }
}
