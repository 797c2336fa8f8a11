import { randomBytes } from 'node:crypto';
import pg from 'pg';

/** A database of a test file's own, cloned from the migrated template. */
export interface TestDatabase {
  url: string;
  /** Runs one statement, for arranging what no route can and for looking behind the answers. */
  query: <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>;
  drop: () => Promise<void>;
}

async function withAdmin<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: process.env['ASSISTLY_TEST_ADMIN_URL'] });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export async function createTestDatabase(): Promise<TestDatabase> {
  const name = `assistly_test_${randomBytes(6).toString('hex')}`;
  await withAdmin((client) =>
    client.query(`create database ${name} template ${process.env['ASSISTLY_TEST_TEMPLATE']}`),
  );
  const url = new URL(process.env['ASSISTLY_TEST_ADMIN_URL'] ?? '');
  url.pathname = `/${name}`;
  const pool = new pg.Pool({ connectionString: url.href, max: 4 });
  pool.on('error', () => undefined); // of idle connections, when the database is dropped
  return {
    url: url.href,
    query: async <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) =>
      (await pool.query<Row>(text, values)).rows,
    drop: async () => {
      await pool.end();
      await withAdmin((client) => client.query(`drop database if exists ${name} with (force)`));
    },
  };
}

/** A connection of somebody else's, for as long as the work takes. */
export async function connected<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
