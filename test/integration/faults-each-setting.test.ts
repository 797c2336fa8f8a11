import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { migrate } from '../../src/migrate.js';
import { createTestDatabase } from '../support/database.js';
import { FOREIGN_SETTINGS, giveSettings, probe } from '../support/database-settings.js';
import { openPoolerDoor } from '../support/pooler-door.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { visitWith, type Visit } from '../support/visit.js';

/** Each setting by itself, which takes minutes; all together: faults-settings. */

let provider: RawProvider;
let usual: Visit;
beforeAll(async () => {
  provider = await startRawProvider();
  usual = await visitWith(provider, []);
});
afterAll(() => provider.close());

describe('a setting of the database alone', () => {
  it.each(FOREIGN_SETTINGS)('%s = %s changes nothing that a statement sees', async (name, value) => {
    const database = await createTestDatabase();
    const door = await openPoolerDoor(database.url);
    try {
      const seen = await probe(database.url);
      await giveSettings(database, [[name, value]]);

      expect(await Promise.all([probe(database.url), probe(door.url)])).toEqual([seen, seen]);
    } finally {
      await door.close();
      await database.drop();
    }
  });

  it.each(FOREIGN_SETTINGS)('%s = %s changes nothing that a client sees', async (name, value) => {
    expect(await visitWith(provider, [[name, value]])).toEqual(usual);
  });

  it.each(FOREIGN_SETTINGS)('%s = %s does not hinder the migrations', async (name, value) => {
    const database = await createTestDatabase();
    await database.query('drop schema bullmq cascade');
    await database.query('drop schema public cascade');
    await database.query('create schema public');
    await giveSettings(database, [[name, value]], 'create schema elsewhere;');
    try {
      const names = await migrate(database.url);
      expect(names.length).toBeGreaterThan(0);
      expect(await migrate(database.url)).toEqual([]);
    } finally {
      await database.drop();
    }
  });
});
