import { setTimeout as sleep } from 'node:timers/promises';
import { MikroORM, type Options } from '@mikro-orm/postgresql';
import { runMigrations } from 'bullmq';
import pg from 'pg';
import { ormOptions } from '../mikro-orm.config.js';
import { isLockTimeout } from './database/database-errors.js';
import { connectionOptions } from './database/postgres-connection.js';

/** `pg_advisory_lock` key of the migrations: the ASCII codes of "migr". */
const MIGRATION_LOCK_KEY = 0x6d696772;
/** Longest wait for another migration of the same database, which may be building an index. */
const WAIT_FOR_ANOTHER_MS = 10 * 60_000;
const LOOK_INTERVAL_MS = 500;
/**
 * Longest that a migration waits for a table that is in use. Everybody else who needs the table queues up behind
 * it meanwhile, and with what they have to do themselves no request shall take two seconds.
 */
const LOCK_TIMEOUT_MS = 1_000;
/** Pauses between the tries, in which those behind it get through: the first, doubled each time up to the last. */
const FIRST_PAUSE_MS = 2_000;
const LAST_PAUSE_MS = 8_000;
/** How long a migration that meets a table in use is tried again. */
const PATIENCE_MS = 60_000;
const APPLICATION_NAME = 'assistly-migrate';
const CONNECT_TIMEOUT_MS = 5_000;

/** What stands in the way of a migration; the message is for a person, no stack needed. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

interface MigrateOptions {
  /** Receives a line for a person about everything that takes time. */
  log?: (line: string) => void;
  patienceMs?: number;
  /** Instead of those of this version. */
  migrations?: NonNullable<Options['migrations']>['migrationsList'];
}

/**
 * Brings a database to the schema of this version: the product's tables, then BullMQ's. Safe to run twice, and
 * from several places at once: the others wait for the first and find nothing to do. Each migration is a
 * transaction of its own, so that it holds its locks no longer than it needs them; one that cannot get them leaves
 * nothing behind, and those before it stay.
 *
 * @returns the names of the migrations that ran
 * @throws {@link MigrationError} where a table stays in use for `patienceMs`, naming who uses it
 */
export async function migrate(
  databaseUrl: string,
  { log = () => undefined, patienceMs = PATIENCE_MS, migrations }: MigrateOptions = {},
): Promise<string[]> {
  const connection = connectionOptions(databaseUrl, {
    applicationName: APPLICATION_NAME,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
  });
  const client = new pg.Client({
    ...connection, // kept alive: it holds the lock, and is silent while an index is built
    lock_timeout: LOCK_TIMEOUT_MS,
  });
  client.on('error', () => undefined); // what is asked of it next fails
  await client.connect();
  const options = ormOptions(databaseUrl, 1);
  const orm = new MikroORM({
    ...options,
    migrations: { ...options.migrations, ...(migrations && { migrationsList: migrations }) },
    driverOptions: { ...connection, lock_timeout: LOCK_TIMEOUT_MS },
  });
  const pastLocks = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    const startedAt = performance.now();
    for (let tries = 1, pauseMs = FIRST_PAUSE_MS; ; tries++, pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)) {
      try {
        await work();
        return;
      } catch (error) {
        if (!isLockTimeout(error)) throw error;
        const passedMs = performance.now() - startedAt;
        const users = await openTransactions(client);
        if (passedMs + pauseMs > patienceMs) {
          throw new MigrationError(
            `${name} needs a table that has been in use for ${seconds(passedMs)}, and gave up after ${tries} tries. Nothing of it was done, and nothing waits for it. Run the migrations again when these transactions are over, or end them: ${users}.`,
            { cause: error },
          );
        }
        log(
          `${name} waits for a table in use; next try in ${seconds(pauseMs)}. Open transactions: ${users}.`,
        );
        await sleep(pauseMs);
      }
    }
  };
  try {
    await waitForOthers(client, log);
    const pending = (await orm.migrator.getPending()).map(({ name }) => name);
    for (const name of pending) {
      await pastLocks(name, () => orm.migrator.up({ migrations: [name] }));
    }
    await pastLocks('The migration of BullMQ', () => runMigrations(client));
    return pending;
  } finally {
    await orm.close(true);
    await client.end(); // and with it the lock
  }
}

/**
 * Looks now and then, rather than wait in a statement: a statement that waits would itself be one that
 * `create index concurrently` waits for.
 */
async function waitForOthers(client: pg.Client, log: (line: string) => void): Promise<void> {
  const end = performance.now() + WAIT_FOR_ANOTHER_MS;
  for (let looks = 0; ; looks++) {
    const { rows } = await client.query<{ is_ours: boolean }>('select pg_try_advisory_lock($1) as is_ours', [
      MIGRATION_LOCK_KEY,
    ]);
    if (rows[0]?.is_ours) return;
    if (performance.now() > end) {
      throw new MigrationError(
        `Another migration of this database has been running for ${seconds(WAIT_FOR_ANOTHER_MS)}: look at it, and run this one again.`,
      );
    }
    if (looks === 0) log('Another migration of this database is running: waiting for it.');
    await sleep(LOOK_INTERVAL_MS);
  }
}

/** Who may be in the way, oldest first; without their statements, which may hold what people wrote. */
async function openTransactions(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ transaction: string }>(
    `select format('%s (%s, %s, open for %s s)', pid, coalesce(nullif(application_name, ''), 'unnamed'), coalesce(state, backend_type),
       extract(epoch from clock_timestamp() - xact_start)::int) as transaction
     from pg_stat_activity
     where datname = current_database() and application_name <> current_setting('application_name')
       and xact_start < clock_timestamp() - make_interval(secs => $1)
     order by xact_start limit 5`,
    [LOCK_TIMEOUT_MS / 1000],
  );
  return rows.length > 0
    ? rows.map(({ transaction }) => transaction).join(', ')
    : 'none that this user may see (pg_stat_activity)';
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
