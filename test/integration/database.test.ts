import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { ormOptions } from '../../mikro-orm.config.js';
import { Database, runOn } from '../../src/database/database.js';
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
    let both: () => void = () => undefined;
    const haveBegun = new Promise<void>((resolve) => (both = resolve));
    const countIn = (order: number[]) =>
      database.transaction(async (tx) => {
        begun++;
        for (const [place, id] of order.entries()) {
          await runOn(tx, sql`update counters set count = count + 1 where id = ${id}`);
          if (begun === 2) both();
          if (place === 0) await haveBegun;
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
