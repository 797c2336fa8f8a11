import { setTimeout as sleep } from 'node:timers/promises';
import { MikroORM, type Options } from '@mikro-orm/postgresql';
import { runMigrations } from 'bullmq';
import type pg from 'pg';
import { ormOptions } from '../mikro-orm.config.js';
import { isLockTimeout } from './database/database-errors.js';
import { IndependentClient, type StatementLimits } from './database/independent-client.js';
import { connectionOptions } from './database/postgres-connection.js';
import { unfitness } from './database/server-check.js';
import { isTransactionPooler } from './database/transaction-pooler.js';

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
  if (await isTransactionPooler(databaseUrl)) {
    throw new MigrationError(
      'The database is reached through a transaction pooler, which keeps no lock from one statement to the next: set DATABASE_MIGRATION_URL to the URL of PostgreSQL itself, or of a pooler in session mode.',
    );
  }
  // No limit to how long a statement runs: an index takes its time.
  const limits: Partial<StatementLimits> = { lock_timeout: LOCK_TIMEOUT_MS };
  const client = new IndependentClient({
    ...connection, // kept alive: it holds the lock, and is silent while an index is built
    limits,
  });
  await client.connect();
  const connectOrm = async (): Promise<MikroORM> => {
    const options = ormOptions(databaseUrl, 1);
    return new MikroORM({
      ...options,
      schema: await ledgerSchema(client),
      migrations: {
        ...options.migrations,
        // One transaction around all of them would be one that `create index concurrently` waits for.
        allOrNothing: false,
        ...(migrations && { migrationsList: migrations }),
      },
      driverOptions: { ...connection, Client: IndependentClient, limits },
    });
  };
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
  let orm: MikroORM | null = null;
  try {
    await refuseEncoding(client);
    await waitForOthers(client, log);
    const { migrator } = (orm = await connectOrm());
    const pending = (await migrator.getPending()).map(({ name }) => name);
    for (const name of pending) {
      await pastLocks(name, () => migrator.up({ migrations: [name] }));
    }
    await pastLocks('The migration of BullMQ', () => runMigrations(client));
    return pending;
  } finally {
    await orm?.close(true);
    await client.end(); // and with it the lock
  }
}

/** @throws {@link MigrationError} where the database cannot hold what people write */
async function refuseEncoding(client: pg.Client): Promise<void> {
  const reason = await unfitness(async (query) => (await client.query(query)).rows);
  if (reason !== null) throw new MigrationError(`Nothing was migrated: ${reason}.`);
}

/**
 * The schema of the ledger of our migrations: that of the tables; or `public`, where every ledger was made that an earlier
 * version began, whatever the search path said.
 *
 * @throws {@link MigrationError} where there is no schema to make tables in
 */
async function ledgerSchema(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ schema: string | null }>(
    `select coalesce(
       (
         select namespace.nspname from pg_class ledger join pg_namespace namespace on namespace.oid = ledger.relnamespace
         where ledger.oid = to_regclass('mikro_orm_migrations') and to_regclass('chat_sessions') is not null
       ),
       current_schema()
     ) as schema`,
  );
  const schema = rows[0]?.schema;
  if (schema == null) {
    throw new MigrationError(
      'Nothing was migrated: there is none of the schemas that DATABASE_URL or the search path of its role names. Create it first.',
    );
  }
  return schema;
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
