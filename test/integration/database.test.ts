import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { ormOptions } from '../../mikro-orm.config.js';
import { Database, runOn } from '../../src/database/database.js';
import { PreparedStatements } from '../../src/config/setting-types.js';
import { openPoolerDoor } from '../support/pooler-door.js';
import { giveSettings } from '../support/database-settings.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

describe('a unit of work', () => {
  let testDatabase: TestDatabase;
  let database: Database;
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    await testDatabase.query('create table counters (id int primary key, count int not null)');
    await testDatabase.query('insert into counters values (1, 0), (2, 0)');
    await giveSettings(testDatabase, [['deadlock_timeout', '20ms']]);
    database = new Database(new MikroORM(ormOptions(testDatabase.url, 4)));
  });
  afterAll(async () => {
    await database.close();
    await testDatabase.drop();
  });

  it('is done again, and once in all, where the server undid it for another’s sake', async () => {
    let begun = 0;
    let holding = 0;
    const bothHold = Promise.withResolvers<void>();
    const countIn = (order: number[]) =>
      database.transaction(async (tx) => {
        begun++;
        for (const [place, id] of order.entries()) {
          await runOn(tx, sql`update counters set count = count + 1 where id = ${id}`);
          if (place > 0) continue;
          if (++holding === 2) bothHold.resolve();
          await bothHold.promise;
        }
      });

    await Promise.all([countIn([1, 2]), countIn([2, 1])]);

    expect(begun).toBe(3); // one of them was the victim
    expect(await testDatabase.query('select id, count from counters order by id')).toEqual([
      { id: 1, count: 2 },
      { id: 2, count: 2 },
    ]);
  });

  it('is not done again where it may have been committed', async () => {
    let tries = 0;
    const losing = database.write((db) => {
      tries++;
      return runOn(db, sql`select pg_terminate_backend(pg_backend_pid())`);
    });

    await expect(losing).rejects.toThrow();
    expect(tries).toBe(1);
  });
});

describe('a prepared statement', () => {
  let testDatabase: TestDatabase;
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    await testDatabase.query('create table notes (id int primary key, text text not null)');
    await testDatabase.query("insert into notes values (1, 'one')");
  });
  afterAll(() => testDatabase.drop());

  const read = (database: Database): Promise<unknown[]> =>
    database.read((db) => runOn(db, sql`select * from notes where id = ${1}`));
  /** The statements that the one connection of the pool has had parsed. */
  const parsed = async (database: Database): Promise<number> => {
    const [row] = await database.read((db) =>
      runOn(db, sql<{ count: number }>`select count(*)::int as count from pg_prepared_statements`),
    );
    return row!.count;
  };

  it.each([
    ['auto', 'PostgreSQL itself', 1],
    ['auto', 'a pooler', 0],
    ['on', 'a pooler', 1],
    ['off', 'PostgreSQL itself', 0],
  ] as const)('is used with %s, by way of %s: %i times', async (setting, way, expected) => {
    const door = way === 'a pooler' ? await openPoolerDoor(testDatabase.url) : null;
    const database = new Database(
      new MikroORM(ormOptions(door?.url ?? testDatabase.url, 1, undefined, setting)),
    );
    try {
      for (let times = 0; times < 3; times++) expect(await read(database)).toHaveLength(1);
      expect(await parsed(database)).toBe(expected);
    } finally {
      await database.close();
      await door?.close();
    }
  });

  it('is parsed anew where its table was changed since, in a transaction too', async () => {
    const database = new Database(
      new MikroORM(ormOptions(testDatabase.url, 4, undefined, PreparedStatements.Auto)),
    );
    const write = (): Promise<unknown[]> =>
      database.transaction((tx) =>
        runOn(tx, sql`update notes set text = ${'two'} where id = ${1} returning *`),
      );
    try {
      // On each connection of the pool.
      for (let times = 0; times < 7; times++)
        await Promise.all([1, 2, 3, 4].flatMap(() => [read(database), write()]));
      await testDatabase.query('alter table notes add column mood text');
      const answers = await Promise.all([1, 2, 3, 4].flatMap(() => [read(database), write()]));
      for (const rows of answers) expect(rows).toEqual([{ id: 1, text: 'two', mood: null }]);
    } finally {
      await database.close();
    }
  });
});
