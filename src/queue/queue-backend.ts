import {
  type BackendFactory,
  type ConnectionOptions,
  createPostgresBackend,
  createRedisBackend,
  type QueueBaseOptions,
  type Telemetry,
} from 'bullmq';
import type { RedisOptions } from 'ioredis';
import type { ClientBase } from 'pg';
import { type Config, Role } from '../config/env.js';
import { connectionOptions } from '../database/postgres-connection.js';
import { connectCluster, disconnectCluster, isOnCluster } from '../redis/redis-cluster.js';
import { redisOptions, type RedisSettings } from '../redis/redis-connection.js';
import { createQueueTelemetry } from '../tracing/queue-telemetry.js';
import { isTracing } from '../tracing/tracing.js';
import { forgetFailedReadiness, pausingOnFailure } from './steady-backend.js';

/** Longest that an idle worker waits to be notified before it looks for itself, in seconds. */
const MAX_BLOCK_SECONDS = 5;
/** Deadline of one command to Redis, in milliseconds. */
const COMMAND_TIMEOUT_MS = 2_000;
/** A worker's connection that has not answered for so long, in milliseconds, is dead: the longest wait and some. */
const SILENCE_MS = MAX_BLOCK_SECONDS * 1_000 + COMMAND_TIMEOUT_MS;
/** Longest wait for a connection, and for a free one of a pool, in milliseconds. */
const CONNECT_TIMEOUT_MS = 3_000;
/** BullMQ's connections on PostgreSQL, a pool each for adding and for working, beside one that listens. */
const PRODUCER_POOL_MAX = 2;
/** One for so many jobs at once, which it renews, ends and replaces; and not more than a server has to spare. */
const JOBS_OF_A_CONNECTION = 25;
const WORKER_POOL_MIN = 3;
const WORKER_POOL_MAX = 20;
/** How long a worker waits for a free connection, in milliseconds: a job is not stalled for longer than that. */
const WORKER_PATIENCE_MS = 10_000;

/** Connections of a worker to its queue on PostgreSQL, beside the one that listens. */
const workerPoolMax = (concurrency: number): number =>
  Math.min(Math.max(Math.ceil(concurrency / JOBS_OF_A_CONNECTION), WORKER_POOL_MIN), WORKER_POOL_MAX);

/**
 * What BullMQ's statements are written for, whatever a database or a role has as its defaults. It is asked for in the
 * start of a connection, as BullMQ itself does with its search path: no transaction pooler stands here, since one
 * delivers no notifications.
 */
const SESSION_OPTIONS = [
  'default_transaction_isolation=read\\ committed',
  'default_transaction_read_only=off',
  'default_transaction_deferrable=off',
  'lock_timeout=0',
  'idle_in_transaction_session_timeout=10000',
  'idle_session_timeout=0',
  'TimeZone=UTC',
  'DateStyle=ISO',
  'extra_float_digits=1',
  'standard_conforming_strings=on',
  'array_nulls=on',
  'transform_null_equals=off',
  'exit_on_error=off',
]
  .map((setting) => `-c ${setting}`)
  .join(' ');

/**
 * Readies a connection. BullMQ takes some for more than one statement and listens to no error of theirs: one that broke
 * meanwhile would end the process; what is asked of it next fails all the same. And as above, for a setting that servers
 * know from PostgreSQL 17 on, and others refuse a connection for.
 */
const ready = async (client: ClientBase): Promise<void> => {
  client.on('error', () => undefined);
  await client.query(
    "select set_config(name, '0', false) from pg_settings where name = 'transaction_timeout'",
  );
};

/**
 * BullMQ on PostgreSQL, with two traps removed. A worker whose LISTEN is not delivered would sleep up to an hour when a
 * delayed job is pending. And the outcome of the first connection is kept for ever, also when it timed out on a busy
 * machine: every later call would fail with that error, and a worker would ask on in vain as fast as it can, so that
 * nothing else in its process ever ran again.
 */
const createCappedPostgresBackend: BackendFactory = (name, opts, options) => {
  const backend = createPostgresBackend(
    name,
    opts as QueueBaseOptions<Parameters<typeof createPostgresBackend>[1]['connection']>,
    options,
  );
  Object.defineProperty(backend, 'maximumBlockTimeout', { get: () => MAX_BLOCK_SECONDS });
  forgetFailedReadiness(backend);
  return pausingOnFailure(backend);
};

/** BullMQ on Redis, with the same trap removed, so that a connection that is silent for longer is a dead one. */
const createSteadyRedisBackend: BackendFactory = (name, opts, options) => {
  const backend = createRedisBackend(name, opts, options);
  Object.defineProperty(backend, 'maximumBlockTimeout', { get: () => MAX_BLOCK_SECONDS });
  return pausingOnFailure(backend);
};

/** The same on a cluster, whose connection BullMQ does not make by itself, and leaves open at its end. */
const createClusterBackend =
  (settings: RedisSettings): BackendFactory =>
  (name, opts, options) => {
    const cluster = connectCluster(settings, opts.connection as RedisOptions);
    const backend = createSteadyRedisBackend(name, { ...opts, connection: cluster }, options);
    const close = backend.close.bind(backend);
    backend.close = async (...args) => {
      await close(...args);
      disconnectCluster(cluster);
    };
    return backend;
  };

/** Most connections of a process to a queue on PostgreSQL: for adding, and in a worker for working and listening. */
export const queueConnections = ({ role, REPLY_CONCURRENCY }: Config): number =>
  PRODUCER_POOL_MAX + (role === Role.Api ? 0 : workerPoolMax(REPLY_CONCURRENCY) + 1);

/** Injection token of the {@link QueueBackend}. */
export const QUEUE_BACKEND = Symbol('QUEUE_BACKEND');

/** What BullMQ needs to know, the same for both stores. */
export interface QueueBackend {
  kind: 'postgres' | 'redis';
  /** Always given: BullMQ's default is one for the whole process, and could be another's. */
  factory: BackendFactory;
  /** For adding jobs: gives up at once, since the reconciler enqueues again what was not added. */
  producerConnection: ConnectionOptions;
  /** For working: waits for its store to come back. */
  workerConnection: ConnectionOptions;
  /** Namespace of the keys in Redis; PostgreSQL has a schema instead. */
  prefix: string;
  /** Undefined without tracing: BullMQ then does nothing for it. */
  telemetry: Telemetry | undefined;
}

export function createQueueBackend(config: Config): QueueBackend {
  const telemetry = isTracing(config) ? createQueueTelemetry() : undefined;
  if (config.REDIS_URL !== undefined) {
    const isClustered = isOnCluster(config);
    const prefix = `${config.REDIS_PREFIX}:bull`;
    const connection = <Options extends RedisOptions>(options: Options) =>
      isClustered ? options : redisOptions(config, options);
    return {
      kind: 'redis',
      factory: isClustered ? createClusterBackend(config) : createSteadyRedisBackend,
      producerConnection: connection({
        enableOfflineQueue: false,
        maxRetriesPerRequest: 1,
        commandTimeout: COMMAND_TIMEOUT_MS,
        connectTimeout: COMMAND_TIMEOUT_MS,
      }),
      workerConnection: connection({
        maxRetriesPerRequest: null,
        connectTimeout: COMMAND_TIMEOUT_MS,
        socketTimeout: SILENCE_MS,
      }),
      // A script of BullMQ touches several keys of a queue, which on a cluster have to be in one slot; elsewhere a new
      // prefix would leave the jobs behind.
      prefix: isClustered ? `{${prefix}}` : prefix,
      telemetry,
    };
  }
  const connection = connectionOptions(config.DATABASE_URL ?? '', {
    applicationName: 'assistly-queue',
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
  });
  const pool = (max: number) => ({
    ...connection,
    max,
    statement_timeout: 10_000,
    options: [connection.options, SESSION_OPTIONS].filter(Boolean).join(' '),
    onConnect: ready,
  });
  return {
    kind: 'postgres',
    factory: createCappedPostgresBackend,
    producerConnection: pool(PRODUCER_POOL_MAX),
    workerConnection: {
      ...pool(workerPoolMax(config.REPLY_CONCURRENCY)),
      connectionTimeoutMillis: WORKER_PATIENCE_MS,
    },
    prefix: config.REDIS_PREFIX,
    telemetry,
  };
}
