import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BACKENDS } from '../support/conversations.js';
import { locate } from '../../src/dev/embedded-postgres/place.js';
import {
  removeEmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/dev/embedded-postgres/embedded-postgres.js';
import { migrate } from '../../src/migrate.js';
import { ALL_TOGETHER } from '../support/database-settings.js';
import { openPoolerDoor } from '../support/pooler-door.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { visitWith, type Visit } from '../support/visit.js';

let provider: RawProvider;
let usual: Visit;
beforeAll(async () => {
  provider = await startRawProvider();
  usual = await visitWith(provider, []);
});
afterAll(() => provider.close());

describe('all of them together', () => {
  it.each(BACKENDS)('change nothing that a client sees, on %s', async (backend) => {
    expect(await visitWith(provider, ALL_TOGETHER, backend)).toEqual(usual);
  });

  if (globalThis.HAS_REDIS) {
    it('change nothing behind a pooler, with Redis', async () => {
      const door = await openPoolerDoor(process.env['ASSISTLY_TEST_ADMIN_URL'] ?? '');
      const through = (url: string): string => {
        const { port } = new URL(door.url);
        return Object.assign(new URL(url), { hostname: '127.0.0.1', port }).href;
      };
      try {
        expect(
          await visitWith(provider, ALL_TOGETHER, 'redis', (url) => ({ DATABASE_URL: through(url) })),
        ).toEqual(usual);
      } finally {
        await door.close();
      }
    });
  }
});

/** Of a server that another one could follow. */
const SETTINGS = { fsync: 'off', wal_level: 'replica' };

describe('a server that has become a standby', () => {
  it('is named at /health/ready, and asked again later', async () => {
    const stateDir = await mkdtemp(join(tmpdir(), 'assistly-standby-'));
    const primary = await startEmbeddedPostgres({ stateDir, settings: SETTINGS });
    await migrate(primary.url);
    await primary.stop();
    await writeFile(join((await locate(stateDir)).data, 'standby.signal'), '');
    const standby = await startEmbeddedPostgres({ stateDir, settings: SETTINGS });
    const operator = { BULL_BOARD_USER: 'operator', BULL_BOARD_PASSWORD: 'a-long-password-of-ours' };
    const stack = await Stack.start({
      workers: 0,
      backend: 'postgres',
      env: { DATABASE_URL: standby.url, ...operator },
    });
    try {
      const ready = await stack.client().request('GET', '/health/ready', {
        headers: { authorization: `Basic ${btoa(Object.values(operator).join(':'))}` },
      });
      expect(ready.status).toBe(503);
      expect(JSON.stringify(ready.body)).toContain('the server is a standby, which can only be read');
      expect((await stack.owner().get('/v1/chatbots')).status).toBe(200);
      expect((await stack.owner().post('/v1/chatbots', { name: 'Bakery' })).status).toBe(503);
      await expect(migrate(standby.url)).rejects.toThrow('the server is a standby');
    } finally {
      await stack.stop();
      await standby.stop();
      await removeEmbeddedPostgres(stateDir);
      await rm(stateDir, { recursive: true, force: true });
    }
  });
});
