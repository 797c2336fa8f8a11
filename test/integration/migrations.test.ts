import { afterEach, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { ormOptions } from '../../mikro-orm.config.js';
import { migrate } from '../../src/database/migrate.js';
import { migrations } from '../../src/database/migrations/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

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

    // The functions are the event stream's: no entity knows them.
    const statements = changes.split(';').map((statement) => statement.trim());
    expect(
      statements.filter((statement) => !/^(drop function if exists "event_stream_.*)?$/.test(statement)),
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
});
