import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { BACKENDS, type Backend } from '../support/conversations.js';
import { createTestDatabase } from '../support/database.js';
import { ALL_TOGETHER } from '../support/database-settings.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { visit, type Visit } from '../support/visit.js';

let provider: RawProvider;
beforeAll(async () => {
  provider = await startRawProvider();
});
afterAll(() => provider.close());

async function visitWith(backend: Backend, settings: typeof ALL_TOGETHER): Promise<Visit> {
  const database = await createTestDatabase(settings);
  const stack = await Stack.start({ backend, database, env: { OPENAI_BASE_URL: provider.baseUrl } });
  try {
    return await visit(stack);
  } finally {
    await stack.stop();
  }
}

describe.each(BACKENDS)('a database’s own settings, on %s,', (backend) => {
  it('change nothing that a client sees', async () => {
    expect(await visitWith(backend, ALL_TOGETHER)).toEqual(await visitWith(backend, []));
  });
});
