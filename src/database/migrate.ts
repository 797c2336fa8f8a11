import { setTimeout as sleep } from 'node:timers/promises';
import { MikroORM } from '@mikro-orm/postgresql';
import { runMigrations } from 'bullmq';
import pg from 'pg';
import { ormOptions } from '../../mikro-orm.config.js';
import { isLockTimeout } from '../common/database-errors.js';

/** `pg_advisory_lock` key of the migrations: the ASCII codes of "migr". */
const MIGRATION_LOCK_KEY = 0x6d696772;
/** Longest wait for another migration that is running, and for a table that is in use. */
const WAIT_FOR_OTHERS_MS = 120_000;
const LOCK_TIMEOUT_MS = 2_000;
/** How often a migration that met a lock is tried, and the pause in which those behind it get through. */
const TRIES = 10;
const RETRY_INTERVAL_MS = 1_000;

/**
 * Brings a database to the schema of this version: the product's tables, then BullMQ's. Safe to run twice, and
 * from two places at once: the second one waits for the first and finds nothing to do.
 *
 * @returns the names of the migrations that ran
 */
export async function migrate(databaseUrl: string): Promise<string[]> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    connectionTimeoutMillis: 5_000,
    application_name: 'assistly-migrate',
  });
  await client.connect();
  const orm = new MikroORM({
    ...ormOptions(databaseUrl, 1),
    // A migration that meets a lock gives up, rather than stop everybody behind it.
    driverOptions: { lock_timeout: LOCK_TIMEOUT_MS, connectionTimeoutMillis: 5_000 },
  });
  try {
    await client.query(`set statement_timeout = ${WAIT_FOR_OTHERS_MS}`);
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK_KEY]);
    const ran = await pastLocks(() => orm.migrator.up());
    await client.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await pastLocks(() => runMigrations(client));
    return ran.map(({ name }) => name);
  } finally {
    await orm.close(true);
    await client.end(); // and with it the lock
  }
}

/** Each try is a transaction of its own, and leaves nothing when it meets a lock. */
async function pastLocks<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= TRIES || !isLockTimeout(error)) throw error;
      await sleep(RETRY_INTERVAL_MS);
    }
  }
}
