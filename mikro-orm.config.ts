import { Migrator } from '@mikro-orm/migrations';
import { defineConfig, type Options } from '@mikro-orm/postgresql';
import type { Pool } from 'pg';
import { databaseUrlForTools } from './src/config/env.js';
import { PreparedStatements } from './src/config/setting-types.js';
import { entities } from './src/entities.js';
import { IndependentClient } from './src/database/independent-client.js';
import { connectionOptions } from './src/database/postgres-connection.js';
import { migrations } from './src/database/migrations/index.js';

/** Longest that one statement may run, or wait for a lock, in milliseconds: nothing waits for ever. */
const STATEMENT_TIMEOUT_MS = 10_000;
const LOCK_TIMEOUT_MS = 5_000;
/** Longest wait for a connection, and for a free one of the pool: a burst of posts has to get through it. */
const CONNECTION_TIMEOUT_MS = 2_500;
/** Longest that a server may be silent, which itself would have ended the statement before. */
const SILENCE_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 2_000;

/**
 * The only ORM configuration: the application passes its settings, the command line tools read the environment.
 *
 * @param onPoolCreated gets the pool, which the event stream shares: a process has one budget of connections
 */
export function ormOptions(
  databaseUrl: string | undefined,
  poolMax = 4,
  onPoolCreated: (pool: Pool) => void = () => undefined,
  preparedStatements: PreparedStatements = PreparedStatements.Auto,
): Options {
  const connection =
    databaseUrl === undefined
      ? undefined
      : connectionOptions(databaseUrl, {
          applicationName: 'assistly',
          connectTimeoutMs: CONNECTION_TIMEOUT_MS,
        });
  return defineConfig({
    dbName: connection?.database ?? connection?.user ?? 'none',
    entities,
    extensions: [Migrator],
    migrations: {
      migrationsList: migrations,
      pathTs: 'src/database/migrations',
      snapshotName: '.snapshot',
      snapshotOnMigrate: false, // the snapshot is made with a migration, not by whoever runs it
      silent: true,
      disableForeignKeys: false, // superusers only, and nothing here needs it
    },
    // The event stream's tables belong to its adapter, and BullMQ's schema to BullMQ: no entity maps them.
    schemaGenerator: { skipTables: [/^event_stream/], ignoreSchema: ['bullmq'] },
    pool: { min: 0, max: poolMax, idleTimeoutMillis: 30_000 },
    driverOptions: {
      ...connection,
      limits: {
        statement_timeout: STATEMENT_TIMEOUT_MS,
        lock_timeout: LOCK_TIMEOUT_MS,
        idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
      },
      preparedStatements,
      query_timeout: SILENCE_TIMEOUT_MS,
      Client: IndependentClient,
      onPoolCreated,
    },
    // Services fork an EntityManager for each unit of work; one that is shared would be a bug.
    allowGlobalContext: false,
    ensureDatabase: false,
  });
}

export default ormOptions(databaseUrlForTools());
