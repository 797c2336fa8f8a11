import { createRequire } from 'node:module';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Migration } from '@mikro-orm/migrations';
import { MikroORM } from '@mikro-orm/postgresql';
import { LATEST_SCHEMA_VERSION } from 'bullmq';
import pg from 'pg';
import { ormOptions } from '../../mikro-orm.config.js';
import { migrate, MigrationError } from '../../src/migrate.js';
import { migrations } from '../../src/database/migrations/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

const NAMES = migrations.map(({ name }) => name);

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function migratedDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  open.push(() => database.drop());
  return database;
}

async function emptyDatabase(): Promise<TestDatabase> {
  const database = await migratedDatabase();
  await database.query('drop schema if exists bullmq cascade');
  await database.query('drop schema public cascade');
  await database.query('create schema public');
  return database;
}

function ormOn(database: TestDatabase): MikroORM {
  const orm = new MikroORM(ormOptions(database.url, 2));
  open.push(() => orm.close(true));
  return orm;
}

const migrationsOf = async (database: TestDatabase): Promise<string[]> =>
  (await database.query<{ name: string }>('select name from mikro_orm_migrations order by id')).map(
    ({ name }) => name,
  );

/** A connection of somebody else, in the middle of a transaction. */
async function openTransaction(url: string, statement: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'somebody' });
  await client.connect();
  open.push(() => client.end());
  await client.query('begin');
  await client.query(statement);
  return client;
}

class AddsTable extends Migration {
  override name = 'Migration29990101000000_adds_table';

  override up(): void {
    this.addSql('create table moods (id int primary key)');
  }
}

class ChangesReplies extends Migration {
  override name = 'Migration29990101000001_changes_replies';

  override up(): void {
    this.addSql('create table before_it_waits (id int primary key)');
    this.addSql('alter table replies add column mood int');
  }
}

const NEXT_VERSION = [...migrations, AddsTable, ChangesReplies];

/** Everything that a schema consists of, as text that two databases can be compared by. */
const schemaOf = (database: TestDatabase): Promise<{ line: string }[]> =>
  database.query(`
    select format('column %s.%s.%s %s %s %s', table_schema, table_name, column_name, data_type, is_nullable,
      column_default) as line
    from information_schema.columns where table_schema in ('public', 'bullmq')
    union all select format('index %s', indexdef) from pg_indexes where schemaname in ('public', 'bullmq')
    union all select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
      from pg_constraint where connamespace in ('public'::regnamespace, 'bullmq'::regnamespace)
    union all select format('function %s %s', oid::regprocedure, md5(prosrc))
      from pg_proc where pronamespace in ('public'::regnamespace, 'bullmq'::regnamespace)
    order by 1`);

describe('the migrations', () => {
  it('make exactly the schema that the entities describe', async () => {
    const orm = ormOn(await migratedDatabase());

    const changes = await orm.schema.getUpdateSchemaSQL({ wrap: false });

    // Functions that no entity knows: the event stream's, the limits', the budgets', and what replies do in one round trip.
    const statements = changes.split(';').map((statement) => statement.trim());
    expect(
      statements.filter(
        (statement) =>
          !/^(drop function if exists "(event_stream_.*|(take_limits|count_hits|hold_places|take_places|reserve_tokens|earlier_replies|post_message|close_reply|complete_reply)".*))?$/.test(
            statement,
          ),
      ),
    ).toEqual([]);
  });

  it('are complete: the committed snapshot is that of the entities', async () => {
    const orm = ormOn(await migratedDatabase());

    expect(await orm.migrator.checkSchema()).toBe(false); // whether another migration would be needed
    expect(await orm.migrator.getPending()).toEqual([]);
  });

  it('run on an empty database, each once, BullMQ’s with them', async () => {
    const reference = await migratedDatabase();
    const database = await emptyDatabase();

    expect(await migrate(database.url)).toEqual(NAMES);

    expect(await migrationsOf(database)).toEqual(NAMES);
    expect(await schemaOf(database)).toEqual(await schemaOf(reference));
  });

  it('do nothing the second time', async () => {
    const database = await emptyDatabase();
    await migrate(database.url);
    const schema = await schemaOf(database);

    expect(await migrate(database.url)).toEqual([]);

    expect(await migrationsOf(database)).toEqual(NAMES);
    expect(await schemaOf(database)).toEqual(schema);
  });

  it('may be started from several places at once: one of them runs them, and all succeed', async () => {
    const database = await emptyDatabase();

    const ran = await Promise.all([migrate(database.url), migrate(database.url), migrate(database.url)]);

    expect(ran.filter((names) => names.length > 0)).toEqual([NAMES]);
    expect(await migrationsOf(database)).toEqual(NAMES);
  });

  it('keep what is stored when they find nothing to do', async () => {
    const database = await migratedDatabase();
    await database.query(
      `insert into chatbots (id, clerk_user_id, name) values (gen_random_uuid(), 'user_1', 'Bakery')`,
    );

    await migrate(database.url);

    expect(await database.query('select name from chatbots')).toEqual([{ name: 'Bakery' }]);
  });

  it('bring an older BullMQ schema up, in the same step', async () => {
    const reference = await migratedDatabase();
    const database = await emptyDatabase();
    await migrateBullmqTo(LATEST_SCHEMA_VERSION - 1, database);

    await migrate(database.url);

    expect(await schemaOf(database)).toEqual(await schemaOf(reference));
    expect(await database.query('select max(version) as version from bullmq.migration')).toEqual([
      { version: LATEST_SCHEMA_VERSION },
    ]);
  });

  it('that meet a table in use say who uses it, and go on when it is free', async () => {
    const database = await migratedDatabase();
    const reader = await openTransaction(database.url, 'select 1 from replies');
    const lines: string[] = [];
    const migrating = migrate(database.url, { migrations: NEXT_VERSION, log: (line) => lines.push(line) });
    await waitFor('it to wait', () => lines.length > 0);

    await reader.query('commit');

    expect(await migrating).toEqual([
      'Migration29990101000000_adds_table',
      'Migration29990101000001_changes_replies',
    ]);
    expect(lines[0]).toMatch(
      /^Migration29990101000001_changes_replies waits for a table in use; next try in 2 s\. Open transactions: \d+ \(somebody, idle in transaction, open for \d+ s\)\.$/,
    );
  });

  it('that meet a table in use for too long end with who uses it, leave nothing of that one, and run again', async () => {
    const database = await migratedDatabase();
    const reader = await openTransaction(database.url, 'select 1 from replies');

    const failed = migrate(database.url, { migrations: NEXT_VERSION, patienceMs: 2_000 });

    await expect(failed).rejects.toThrow(MigrationError);
    await expect(failed).rejects.toThrow(
      /^Migration29990101000001_changes_replies needs a table that has been in use for \d+ s, .*: \d+ \(somebody, idle in transaction, open for \d+ s\)\.$/,
    );
    expect(await migrationsOf(database)).toEqual([...NAMES, 'Migration29990101000000_adds_table']);
    expect(await database.query(`select to_regclass('before_it_waits') as found`)).toEqual([{ found: null }]);
    await reader.query('commit');
    expect(await migrate(database.url, { migrations: NEXT_VERSION })).toEqual([
      'Migration29990101000001_changes_replies',
    ]);
  });

  it('of BullMQ wait no longer for a table in use than ours', async () => {
    const database = await migratedDatabase();
    await openTransaction(database.url, 'select 1 from bullmq.migration');

    await expect(migrate(database.url, { patienceMs: 2_000 })).rejects.toThrow(
      /^The migration of BullMQ needs a table that has been in use/,
    );
  });
});

/** As an earlier release of BullMQ would have left it; its package tells nobody else where the statements are. */
async function migrateBullmqTo(version: number, database: TestDatabase): Promise<void> {
  const require = createRequire(import.meta.url);
  const path = require.resolve('bullmq').replace(/dist\/cjs\/.*$/, 'dist/cjs/postgres/migrations/index.js');
  const { MIGRATIONS } = require(path) as {
    MIGRATIONS: { version: number; name: string; minClientVersion: number; load: () => string }[];
  };
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query('create schema bullmq');
  await client.query('set search_path to bullmq');
  await client.query(
    `create table migration (version integer primary key, name text not null, min_client_version integer not null,
       applied_at timestamptz not null default now())`,
  );
  for (const migration of MIGRATIONS.filter((each) => each.version <= version)) {
    await client.query(migration.load());
    await client.query('insert into migration (version, name, min_client_version) values ($1, $2, $3)', [
      migration.version,
      migration.name,
      migration.minClientVersion,
    ]);
  }
  await client.end();
}

describe('a version that is newer than the schema', () => {
  it.each([
    ['the product’s', 'mikro_orm_migrations', 'id'],
    ['BullMQ’s', 'bullmq.migration', 'version'],
  ])(
    'is not ready and takes no jobs before %s migration has run, while the one before serves',
    async (_, ledger, order) => {
      const stack = await Stack.start({ backend: 'postgres' });
      open.push(() => stack.stop());
      const owner = stack.owner();
      const chatbot = await owner.createChatbot({ name: 'Bakery', characteristics: ['We open at seven.'] });
      const { session, guest } = await stack.client().openSession(chatbot.id);
      const first = await guest.postMessage(session.id, 'Hello!');
      expect(await guest.finalReply(first.reply.id)).toMatchObject({ status: 'completed' });
      // Who answers already has looked; who starts now does not find its newest migration.
      const [newest] = await stack.database.query<Record<string, unknown>>(
        `delete from ${ledger} where ${order} = (select max(${order}) from ${ledger}) returning *`,
      );
      const { url } = await stack.addApi();
      const newWorker = await stack.addWorker();

      const { status, body } = await stack.client().at(url).get('/health/ready');
      expect([status, body.code]).toEqual([503, 'service_unavailable']);
      expect(body.detail).toContain('migrations');
      const served = await guest.postMessage(session.id, 'When do you open?');
      expect(await guest.finalReply(served.reply.id)).toMatchObject({ status: 'completed' });
      const [oldWorker] = stack.workers.splice(0, 1);
      await oldWorker!.close();
      const waiting = await guest.postMessage(session.id, 'And on Sundays?');
      expect(await guest.get(`/v1/replies/${waiting.reply.id}?wait=1`)).toMatchObject({
        body: { status: 'queued' },
      });

      const names = Object.keys(newest!);
      await stack.database.query(
        `insert into ${ledger} (${names.join()}) values (${names.map((_, i) => `$${i + 1}`).join()})`,
        Object.values(newest!),
      );

      expect(stack.workers).toEqual([newWorker]);
      expect(await guest.finalReply(waiting.reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
      await waitFor(
        'readiness',
        async () => (await stack.client().at(url).get('/health/ready')).status === 200,
      );
    },
  );
});
