import pg from 'pg';
import { migrate } from '../../dist/src/migrate.js';
import { beginSeen } from './seen.mjs';
import { startPgBouncer, startRedis, startRedisCluster, startTemporaryPostgres } from './services.mjs';

/** What a developer's shell has set must not reach the processes under test. */
const FOREIGN = [
  'DATABASE_URL',
  'REDIS_URL',
  'REDIS_CLUSTER_NODES',
  'OPENAI_API_KEY',
  'OPENAI_BASE_URL',
  'CLERK_JWT_KEY',
  'CLERK_SECRET_KEY',
];

/**
 * Starts what the tests need, once: a PostgreSQL of their own, unless TEST_DATABASE_URL names one that they may
 * create databases in, with a migrated template; and a Redis of their own, unless REDIS_URL names one.
 *
 * @param {unknown} _globalConfig
 * @param {{ globals: { HAS_REDIS?: boolean } }} projectConfig
 */
export default async function globalSetup(_globalConfig, projectConfig) {
  /** @type {(() => Promise<void>)[]} */
  const stop = [];
  globalThis.assistlyTestServices = stop;

  let adminUrl = process.env.TEST_DATABASE_URL;
  if (!adminUrl) {
    const server = await startTemporaryPostgres();
    stop.push(() => server.stop());
    adminUrl = server.url;
  }
  const template = `assistly_template_${process.pid}`;
  await asAdmin(adminUrl, `create database ${template}`);
  stop.unshift(() => asAdmin(adminUrl, `drop database if exists ${template} with (force)`));
  const templateUrl = new URL(adminUrl);
  templateUrl.pathname = `/${template}`;
  await migrate(templateUrl.href);
  process.env.ASSISTLY_TEST_ADMIN_URL = adminUrl;
  process.env.ASSISTLY_TEST_TEMPLATE = template;

  // With POOLER=1 the products of the tests reach their database through a transaction pooler.
  if (process.env.POOLER === '1') {
    const pooler = await startPgBouncer(adminUrl);
    stop.unshift(pooler.stop);
    process.env.ASSISTLY_TEST_POOLER_PORT = String(pooler.port);
  }

  if (process.env.REDIS_URL) process.env.ASSISTLY_TEST_REDIS_URL = process.env.REDIS_URL;
  // With CLUSTER=1 the products of the tests have a Redis Cluster for their Redis.
  else if (process.env.CLUSTER === '1') {
    const cluster = await startRedisCluster();
    stop.push(cluster.stop);
    process.env.ASSISTLY_TEST_REDIS_URL = cluster.url;
    process.env.ASSISTLY_TEST_CLUSTER_NODES = cluster.nodes;
  } else if (projectConfig.globals.HAS_REDIS) {
    const redis = await startRedis();
    stop.push(redis.stop);
    process.env.ASSISTLY_TEST_REDIS_URL = redis.url;
  }
  for (const name of FOREIGN) delete process.env[name];
  beginSeen();
}

/**
 * @param {string} url
 * @param {string} statement
 */
async function asAdmin(url, statement) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(statement);
  await client.end();
}
