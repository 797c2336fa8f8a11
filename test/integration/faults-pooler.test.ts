import { spawnSync } from 'node:child_process';
import { afterEach, describe as describeAnyway, expect, it } from '@jest/globals';
import { createTestDatabase } from '../support/database.js';
import { startPgBouncer } from '../support/services.mjs';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** What a pooler between the product and PostgreSQL leaves of it. With Redis: the end-to-end suite with POOLER=1. */

const { migrate } = await importProduct<typeof import('../../src/migrate.js')>('migrate.js');

const hasPgBouncer = spawnSync('pgbouncer', ['--version']).status === 0;
if (!hasPgBouncer) console.warn('SKIPPED: everything through a pooler. There is no pgbouncer on the PATH.');
const describe = hasPgBouncer || process.env['CI'] === 'true' ? describeAnyway : describeAnyway.skip;

const toStop: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of toStop.splice(0).reverse()) await stop();
});

async function poolerOf(url: string, mode: 'transaction' | 'session') {
  const pooler = await startPgBouncer(url, mode);
  toStop.push(pooler.stop);
  return pooler;
}

describe('on PostgreSQL alone', () => {
  async function readinessThrough(mode: 'transaction' | 'session') {
    const stack = await Stack.start({ backend: 'postgres', apis: 0, workers: 0 });
    toStop.push(() => stack.stop());
    const pooler = await poolerOf(stack.database.url, mode);
    const env = {
      DATABASE_URL: pooler.through(stack.database.url),
      BULL_BOARD_USER: 'operator',
      BULL_BOARD_PASSWORD: 'a password',
    };
    const { url } = await stack.addApi(env);
    const headers = { authorization: `Basic ${Buffer.from('operator:a password').toString('base64')}` };
    return async () => {
      const response = await fetch(`${url}/health/ready`, { headers });
      return { status: response.status, text: await response.text() };
    };
  }

  it('a transaction pooler is noticed, and the process is not ready', async () => {
    const ask = await readinessThrough('transaction');
    const answer = await waitFor('the pooler to be noticed', async () => {
      const found = await ask();
      return found.text.includes('notifications') ? found : null;
    });
    expect(answer.status).toBe(503);
    expect(answer.text).toMatch(/transaction pooler.*REDIS_URL/);
  });

  it('a pooler in session mode delivers notifications', async () => {
    const ask = await readinessThrough('session');
    // This PgBouncer refuses what BullMQ asks for at the start of a connection, so the queue is missing, and it alone.
    await waitFor('the pooler to be looked at', async () =>
      (await ask()).text.includes('"name":"notifications","status":"up"'),
    );
    expect((await ask()).text).toContain('Missing: queue.');
  });
});

describe('the migrations', () => {
  it('refuse a transaction pooler, by the name of the setting to use', async () => {
    const database = await createTestDatabase();
    toStop.push(() => database.drop());
    const pooler = await poolerOf(database.url, 'transaction');
    await expect(migrate(pooler.through(database.url))).rejects.toThrow(/DATABASE_MIGRATION_URL/);
  });

  it('run through a pooler in session mode', async () => {
    const database = await createTestDatabase();
    toStop.push(() => database.drop());
    const pooler = await poolerOf(database.url, 'session');
    expect(await migrate(pooler.through(database.url))).toEqual([]);
  });
});
