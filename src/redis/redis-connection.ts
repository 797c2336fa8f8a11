import { Redis, type RedisOptions } from 'ioredis';
import type { Config } from '../config/env.js';

/** Where Redis is, as the settings say. */
export type RedisSettings = Pick<
  Config,
  | 'REDIS_URL'
  | 'REDIS_SENTINELS'
  | 'REDIS_SENTINEL_MASTER'
  | 'REDIS_SENTINEL_PASSWORD'
  | 'REDIS_CLUSTER_NODES'
>;

/** A connection that meets a replica again and again is made anew no more often than this, in milliseconds. */
const MIN_RECONNECT_INTERVAL_MS = 500;

/** Deadline of a question to a Sentinel, in milliseconds. */
const SENTINEL_TIMEOUT_MS = 1_000;

/** A peer that vanished without a word is noticed about ten probes, of a second each, after this silence. */
const KEEPALIVE_MS = 10_000;

/**
 * What a server answers that is no primary any more, or not one yet: the connection works, and will not lead to the
 * primary however long one waits. Of a script, Redis before 7 puts it behind the script's own error.
 */
const WRONG_SERVER = /(?:^|[\s:]-?)(?:READONLY|LOADING|MASTERDOWN|UNBLOCKED)\s/;

/** Whether an error says that the server at the other end cannot take what its primary must. */
export const isOfWrongServer = (error: Error): boolean => WRONG_SERVER.test(error.message);

/** What every connection to a server of Redis has. */
export function sharedOptions() {
  let reconnectedAt = -Infinity;
  return {
    keepAlive: KEEPALIVE_MS,
    retryStrategy: (times: number) => Math.min(times * 200, 2_000),
    reconnectOnError: (error: Error) => {
      const now = performance.now();
      if (!isOfWrongServer(error) || now - reconnectedAt < MIN_RECONNECT_INTERVAL_MS) return false;
      reconnectedAt = now;
      // The command fails all the same: whoever sent it knows whether to send it again.
      return true;
    },
  };
}

/** @throws where Redis is not used */
export function urlOf({ REDIS_URL: url }: Pick<RedisSettings, 'REDIS_URL'>): string {
  if (url === undefined) throw new Error('there is no REDIS_URL');
  return url;
}

export const wantsTls = (url: string): boolean => new URL(url).protocol === 'rediss:';

/**
 * How one Redis is reached: by its URL or by way of Sentinels, and always away from a server that has become a replica,
 * since a failover leaves the connections to the old primary open. A cluster is reached by `redis-cluster.ts`.
 *
 * @param options over those that all connections share
 * @returns options as BullMQ takes them, the URL among them
 */
export function redisOptions<Options extends RedisOptions>(settings: RedisSettings, options: Options) {
  const {
    REDIS_SENTINELS: sentinels,
    REDIS_SENTINEL_MASTER: name,
    REDIS_SENTINEL_PASSWORD: sentinelPassword,
  } = settings;
  const url = urlOf(settings);
  return {
    url,
    ...sharedOptions(),
    ...(sentinels.length > 0 && {
      sentinels,
      name,
      sentinelPassword,
      sentinelRetryStrategy: (times: number) => Math.min(times * 200, 2_000),
      sentinelCommandTimeout: SENTINEL_TIMEOUT_MS,
      // Where Redis wants TLS, so do its Sentinels.
      ...(wantsTls(url) && {
        tls: {},
        sentinelTLS: {},
        enableTLSForSentinelMode: true,
      }),
    }),
    ...options,
  };
}

/** A connection of our own. */
export function connectRedis(settings: RedisSettings, options: RedisOptions): Redis {
  const { url, ...rest } = redisOptions(settings, options);
  return new Redis(url, rest);
}

/** How long the key lives that proves that Redis takes writes, in milliseconds. */
export const PROOF_TTL_MS = 60_000;

/** Key of that proof; one for each user of Redis, so that the one's is not taken for the other's. */
export const proofKey = (prefix: string, user: 'queue' | 'events'): string => `${prefix}:proof:${user}`;
