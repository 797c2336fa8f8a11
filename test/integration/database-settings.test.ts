import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { IndependentClient } from '../../src/database/independent-client.js';
import { migrate, MigrationError } from '../../src/migrate.js';
import { connected, createTestDatabase, type TestDatabase } from '../support/database.js';
import { ALL_TOGETHER, giveSettings, probe } from '../support/database-settings.js';
import { openPoolerDoor } from '../support/pooler-door.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { visitWith } from '../support/visit.js';

const OPERATOR = { BULL_BOARD_USER: 'operator', BULL_BOARD_PASSWORD: 'a-long-password-of-ours' };

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function testDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  open.push(() => database.drop());
  return database;
}

/** Without the product's tables, and with a schema that other search paths lead to. */
async function emptyDatabase(): Promise<TestDatabase> {
  const database = await testDatabase();
  await database.query('drop schema bullmq cascade');
  await database.query('drop schema public cascade');
  await database.query('create schema public; create schema elsewhere');
  return database;
}

const schemaOf = async ({ query }: TestDatabase, table: string): Promise<string[]> =>
  (
    await query<{ schemaname: string }>(
      'select schemaname from pg_tables where tablename = $1 order by schemaname',
      [table],
    )
  ).map(({ schemaname }) => schemaname);

describe('a connection of the product', () => {
  let database: TestDatabase;
  let door: Awaited<ReturnType<typeof openPoolerDoor>>;
  let usual: unknown[];
  beforeAll(async () => {
    database = await createTestDatabase();
    door = await openPoolerDoor(database.url);
    usual = await probe(database.url);
  });
  afterAll(async () => {
    await door.close();
    await database.drop();
  });

  it('is the same where the database has them all', async () => {
    await giveSettings(database, ALL_TOGETHER);

    expect(await Promise.all([probe(database.url), probe(door.url)])).toEqual([usual, usual]);
  });

  it('is the same where the role has them all', async () => {
    await giveSettings(database, []);
    const url = new URL(database.url);
    [url.username, url.password] = [`role_${process.pid}`, 'secret'];
    await database.query(`create role ${url.username} login superuser password 'secret'`);
    open.push(async () => {
      await database.query(`drop role ${url.username}`);
    });
    for (const [name, value] of ALL_TOGETHER) {
      await database.query(
        `alter role ${url.username} set ${name} to ${name === 'search_path' ? value : pg.escapeLiteral(value)}`,
      );
    }

    expect(await probe(url.href)).toEqual(usual);
  });

  it('leaves nothing behind for others on a pooler’s connection', async () => {
    // Without those that the test itself could not live with.
    await giveSettings(
      database,
      ALL_TOGETHER.filter(([name]) => !name.endsWith('_timeout')),
    );
    const client = new IndependentClient({ connectionString: door.url, limits: { lock_timeout: 5_000 } });
    await client.connect();
    open.push(() => client.end());
    const settings = `select coalesce(jsonb_object_agg(name, setting), '{}') as own from pg_settings where source = 'session'`;
    await client.query('select 1');

    // As others send it, not as ours do.
    const plain = pg.Client.prototype.query.bind(client) as (text: string) => Promise<pg.QueryResult>;
    const { rows } = await plain(settings);

    expect(rows).toEqual([{ own: {} }]);
  });

  it('reports what was wrong, and serves the next statement as before', async () => {
    await giveSettings(database, []);
    for (const { url } of [database, door]) {
      const client = new IndependentClient({ connectionString: url, limits: { statement_timeout: 50 } });
      await client.connect();
      await expect(client.query('select pg_sleep(5)')).rejects.toMatchObject({ code: '57014' });
      await expect(client.query('select nothing_of_the_kind')).rejects.toMatchObject({ code: '42703' });
      await client.query('begin');
      await expect(client.query('select pg_sleep(5)')).rejects.toMatchObject({ code: '57014' });
      await client.query('rollback');
      expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
      expect(client.getTransactionStatus()).toBe('I');
      await client.end();
    }
  });

  it('ends when its server is silent', async () => {
    for (const { url } of [database, door]) {
      const client = new IndependentClient({ connectionString: url, query_timeout: 100 });
      await client.connect();
      const ended = new Promise((resolve) => client.once('end', resolve));
      await expect(client.query('select pg_sleep(5)')).rejects.toThrow('Query read timeout');
      await ended;
    }
  });
});

describe('the product', () => {
  let provider: RawProvider;
  beforeAll(async () => {
    provider = await startRawProvider();
  });
  afterAll(() => provider.close());

  it('shows its clients the same on a database with all of them as on one with none', async () => {
    const [usual, seen] = await Promise.all([visitWith(provider, []), visitWith(provider, ALL_TOGETHER)]);

    expect(seen).toEqual(usual);
  });

  it.each([
    [{ encoding: 'LATIN1' }, /encoding is LATIN1.*UTF8/],
    [{ encoding: 'SQL_ASCII' }, /encoding is SQL_ASCII.*UTF8/],
    [{ session_replication_role: 'replica' }, /session_replication_role is replica/],
  ])('neither migrates a database with %j, nor says that it is ready on it', async (what, reason) => {
    const { encoding, ...settings } = what as Record<string, string>;
    const database = await (encoding === undefined ? testDatabase() : databaseIn(encoding));
    await giveSettings(database, Object.entries(settings));

    const migrating = migrate(database.url);
    await expect(migrating).rejects.toThrow(reason);
    await expect(migrating).rejects.toBeInstanceOf(MigrationError);
    const stack = await Stack.start({ database, backend: 'postgres', workers: 0, env: OPERATOR });
    const { status, body } = await stack.client().request('GET', '/health/ready', {
      headers: { authorization: `Basic ${btoa(Object.values(OPERATOR).join(':'))}` },
    });
    await stack.stop();
    open.pop(); // the stack has dropped its database

    expect(status).toBe(503);
    expect(JSON.stringify(body)).toMatch(reason);
  });
});

/** A database in an encoding of before. */
async function databaseIn(encoding: string): Promise<TestDatabase> {
  const database = await testDatabase();
  const [{ name } = { name: '' }] = await database.query<{ name: string }>(
    'select current_database() as name',
  );
  const url = new URL(database.url);
  await connected(process.env['ASSISTLY_TEST_ADMIN_URL'] ?? '', async (admin) => {
    await admin.query(`drop database ${name} with (force)`);
    await admin.query(
      `create database ${name} template template0 encoding '${encoding}' locale 'C' locale_provider libc`,
    );
  });
  expect(url.pathname).toBe(`/${name}`);
  return database;
}

describe('the schema of the tables', () => {
  it('is the first of the search path, from nothing, with the ledger beside', async () => {
    const database = await emptyDatabase();
    await giveSettings(database, [['search_path', 'elsewhere, public']]);

    expect(await migrate(database.url)).not.toEqual([]);

    expect(await schemaOf(database, 'messages')).toEqual(['elsewhere']);
    expect(await schemaOf(database, 'mikro_orm_migrations')).toEqual(['elsewhere']);
    expect(await migrate(database.url)).toEqual([]);
  });

  it('is public where the search path names none that exists', async () => {
    const database = await emptyDatabase();
    await giveSettings(database, [['search_path', 'nowhere']]);

    await migrate(database.url);

    expect(await schemaOf(database, 'messages')).toEqual(['public']);
  });

  it('is found again when the search path has changed', async () => {
    const database = await emptyDatabase();
    await giveSettings(database, [['search_path', 'elsewhere']]);
    await migrate(database.url);
    await giveSettings(database, []);

    expect(await migrate(database.url)).toEqual([]);

    expect(await schemaOf(database, 'messages')).toEqual(['elsewhere']);
  });

  it('may lack the ledger, which earlier versions made in public', async () => {
    const database = await emptyDatabase();
    await giveSettings(database, [['search_path', 'elsewhere']]);
    await migrate(database.url);
    await database.query('alter table elsewhere.mikro_orm_migrations set schema public');

    expect(await migrate(database.url)).toEqual([]);

    expect(await schemaOf(database, 'mikro_orm_migrations')).toEqual(['public']);
  });

  it('is only that which a connection asks for, where it asks', async () => {
    const database = await emptyDatabase();
    await migrate(database.url);
    for (const [options, expected] of [
      ['-c search_path=elsewhere', null],
      ['-c search_path=public', 'messages'],
    ] as const) {
      const client = new IndependentClient({ connectionString: database.url, options });
      await client.connect();
      const { rows } = await client.query(`select to_regclass('messages')::text as found`);
      await client.end();
      expect(rows).toEqual([{ found: expected }]);
    }
  });

  it.each([
    ['schema', 'elsewhere'],
    ['options', '-csearch_path=elsewhere'],
  ])('is another one where the URL says so with %s', async (name, value) => {
    const database = await emptyDatabase();
    await migrate(database.url);
    const url = new URL(database.url);
    url.searchParams.set(name, value);

    expect(await migrate(url.href)).not.toEqual([]);
    expect(await migrate(url.href)).toEqual([]);

    expect(await schemaOf(database, 'messages')).toEqual(['elsewhere', 'public']);
    expect(await schemaOf(database, 'mikro_orm_migrations')).toEqual(['elsewhere', 'public']);
  });

  it('has to be there where the URL asks for it', async () => {
    const database = await emptyDatabase();
    const url = new URL(database.url);
    url.searchParams.set('schema', 'nowhere');

    const migrating = migrate(url.href);
    await expect(migrating).rejects.toThrow('Create it first');
    await expect(migrating).rejects.toBeInstanceOf(MigrationError);

    expect(await schemaOf(database, 'messages')).toEqual([]);
  });

  it('is not that of another role, whose search path leads elsewhere', async () => {
    const database = await emptyDatabase();
    await migrate(database.url);
    const url = new URL(database.url);
    [url.username, url.password] = [`tenant_${process.pid}`, 'secret'];
    await database.query(`create role ${url.username} login password 'secret'`);
    await database.query(`alter role ${url.username} set search_path to elsewhere`);
    await database.query(`grant all on schema elsewhere to ${url.username}`);
    await database.query('drop schema bullmq cascade');
    await database.query(
      `do $$ begin execute format('grant create on database %I to ${url.username}', current_database()); end $$`,
    );
    open.push(async () => {
      await database.query(`drop owned by ${url.username}; drop role ${url.username}`);
    });

    expect(await migrate(url.href)).not.toEqual([]);

    expect(await schemaOf(database, 'messages')).toEqual(['elsewhere', 'public']);
  });
});
