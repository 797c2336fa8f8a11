import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { migrate } from '../../src/migrate.js';
import { createTestDatabase } from '../support/database.js';
import { FOREIGN_SETTINGS, giveSettings } from '../support/database-settings.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { visit, type Visit } from '../support/visit.js';

let provider: RawProvider;
let usual: Visit;
beforeAll(async () => {
  provider = await startRawProvider();
  usual = await visitWith([]);
});
afterAll(() => provider.close());

async function visitWith(settings: typeof FOREIGN_SETTINGS): Promise<Visit> {
  const database = await createTestDatabase();
  await giveSettings(database, settings);
  const stack = await Stack.start({
    backend: 'postgres',
    database,
    env: { OPENAI_BASE_URL: provider.baseUrl },
  });
  try {
    return await visit(stack);
  } finally {
    await stack.stop();
  }
}

describe('a setting of the database alone', () => {
  it.each(FOREIGN_SETTINGS)('%s = %j changes nothing that a client sees', async (name, value) => {
    expect(await visitWith([[name, value]])).toEqual(usual);
  });

  it.each(FOREIGN_SETTINGS)('%s = %j does not hinder the migrations', async (name, value) => {
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
