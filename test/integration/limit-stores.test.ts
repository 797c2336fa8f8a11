import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { ormOptions } from '../../mikro-orm.config.js';
import { loadConfig, Role } from '../../src/config/env.js';
import { Database } from '../../src/database/database.js';
import type { LimitStore } from '../../src/limits/limit-store.js';
import { networksOf } from '../../src/limits/network.js';
import { PostgresLimitStore } from '../../src/limits/postgres-limit-store.js';
import { RateLimits, StoreDown } from '../../src/limits/rate-limits.js';
import { connectRedis } from '../../src/redis/redis-connection.js';
import { RedisLimitStore } from '../../src/limits/redis-limit-store.js';
import { type Backend, BACKENDS } from '../support/conversations.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { freePort } from '../support/services.mjs';
import { redisSettings } from '../support/test-redis.js';
import { waitFor } from '../support/wait.js';

let testDatabase: TestDatabase;
let database: Database;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = new Database(new MikroORM(ormOptions(testDatabase.url, 8)));
});
afterAll(async () => {
  await database.close();
  await testDatabase.drop();
});

const configOf = (more: Record<string, string> = {}) =>
  loadConfig(Role.Api, { NODE_ENV: 'test', DATABASE_URL: testDatabase.url, ...more });

describe.each(BACKENDS)('the store of limits on %s', (backend: Backend) => {
  /** Two, as two processes have them. */
  let stores: LimitStore[];
  let config: ReturnType<typeof configOf>;
  beforeAll(async () => {
    config = configOf(backend === 'redis' ? redisSettings() : {});
    const make = (): LimitStore =>
      backend === 'redis'
        ? new RedisLimitStore(config, config.REDIS_PREFIX, () => undefined)
        : new PostgresLimitStore(database);
    stores = [make(), make()];
    for (const store of stores) {
      await waitFor('a connection', async () => {
        await store.take([hit(1)]);
        return true;
      });
    }
  });
  afterAll(() => Promise.all(stores.map((store) => store.close())));

  /** Takes them: null, or which was too much, and until when. */
  const take = async (n: number, hits: { max: number; key: string; windowSeconds: number }[]) => {
    const counts = await stores[n]!.take(hits);
    const index = counts.findIndex(({ hits: count }, place) => count > hits[place]!.max);
    return index < 0 ? null : { index, retryAfterMs: counts[index]!.resetMs };
  };

  const hit = (max: number, key: string = randomUUID(), windowSeconds = 60) => ({ key, max, windowSeconds });

  it('takes exactly as many as the limit, whoever asks and however many at once', async () => {
    const one = hit(30);
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => take(n % 2, [one])));

    expect(answers.filter((answer) => answer === null)).toHaveLength(30);
    for (const answer of answers) {
      if (!answer) continue;
      expect(answer.index).toBe(0);
      expect(answer.retryAfterMs).toBeGreaterThan(50_000);
      expect(answer.retryAfterMs).toBeLessThanOrEqual(60_000);
    }
  });

  it('says which was too much, and counts nothing of those behind it', async () => {
    const [narrow, wide] = [hit(1), hit(2)];
    expect(await take(0, [narrow, wide])).toBeNull();

    expect(await take(1, [narrow, wide])).toMatchObject({ index: 0 });
    expect(await take(0, [hit(1), wide])).toBeNull();
    expect(await take(1, [hit(1), wide])).toMatchObject({ index: 1 });
  });

  it('begins anew when the window is over', async () => {
    const short = hit(1, randomUUID(), 1);
    await take(0, [short]);
    expect(await take(0, [short])).toMatchObject({ index: 0 });

    await waitFor('the next window', async () => (await take(0, [short])) === null);
  });

  it('tells how many there were, and counts no look', async () => {
    const [one, short] = [hit(2), hit(2, randomUUID(), 1)];
    expect(await stores[1]!.look(one)).toBeNull();
    for (const seen of [1, 2, 3]) {
      await take(0, [one]);
      for (const store of stores) expect((await store.look(one))?.hits).toBe(seen);
    }
    const { resetMs } = (await stores[1]!.look(one))!;
    expect(resetMs).toBeGreaterThan(50_000);
    expect(resetMs).toBeLessThanOrEqual(60_000);

    await take(0, [short]);
    await waitFor('its window to be over', async () => (await stores[0]!.look(short)) === null);
  });

  const place = (max: number, key: string = randomUUID()) => ({ key, max });
  /** Takes them: null, or which had no place. */
  const hold = async (n: number, holds: { max: number; key: string }[], holder: string) => {
    const used = await stores[n]!.hold(holds, holder);
    const full = used.findIndex((count, index) => count > holds[index]!.max);
    return full < 0 ? null : full;
  };

  it('has exactly as many places as the limit, whoever asks and however many at once', async () => {
    const [narrow, wide] = [place(5), place(8)];
    const holders = Array.from({ length: 20 }, () => randomUUID());
    const answers = await Promise.all(holders.map((holder, n) => hold(n % 2, [narrow, wide], holder)));
    expect(answers.filter((answer) => answer === null)).toHaveLength(5);
    expect(answers.filter((answer) => answer === 0)).toHaveLength(15);

    // Who got no place of one has none of the others.
    const others = Array.from({ length: 6 }, () => randomUUID());
    const free = [];
    for (const holder of others) free.push(await hold(0, [place(9), wide], holder));
    expect(free).toEqual([null, null, null, 1, 1, 1]);

    const first = holders[answers.indexOf(null)]!;
    await stores[1]!.letGo([{ keys: [narrow.key, wide.key], holder: first }]);
    expect(await hold(0, [narrow, wide], randomUUID())).toBeNull();
  });

  it('tells how many places are in use, up to the first of which there is none', async () => {
    const [narrow, wide] = [place(2), place(9)];
    const used = [];
    for (let n = 0; n < 3; n++) used.push(await stores[n % 2]!.hold([narrow, wide], randomUUID()));

    expect(used).toEqual([[1, 1], [2, 2], [3]]);
    expect(await stores[0]!.hold([wide], randomUUID())).toEqual([3]);
  });

  it('gives a place that nobody keeps to another, and none that is kept', async () => {
    const one = place(1);
    const [gone, alive] = [randomUUID(), randomUUID()];
    await stores[0]!.hold([one], gone);
    await expire(one.key, gone);
    expect(await hold(1, [one], alive)).toBeNull();
    await expire(one.key, alive);

    await stores[1]!.keep([{ keys: [one.key], holder: alive }]);

    expect(await hold(0, [one], randomUUID())).toBe(0);
  });

  /** As when the time of a place is over. */
  async function expire(key: string, holder: string): Promise<void> {
    if (backend === 'postgres') {
      await testDatabase.query(
        `update held_places set until = clock_timestamp() where key = $1 and holder = $2`,
        [key, holder],
      );
      return;
    }
    const client = connectRedis(config, {});
    await client.zadd(`${config.REDIS_PREFIX}:held:${key}`, 1, holder);
    client.disconnect();
  }

  it('survives requests that count the same things in any number at once', async () => {
    const [chatbot, address] = [hit(1_000_000), hit(1_000_000)];
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) => take(n % 2, [hit(9), address, chatbot])),
    );

    expect(answers.every((answer) => answer === null)).toBe(true);
  });
});

it('PostgreSQL keeps no row of a window that is over', async () => {
  const store = new PostgresLimitStore(database);
  await store.take([{ key: 'gone', max: 1, windowSeconds: 1 }]);
  await testDatabase.query(`update rate_limits set ends_at = clock_timestamp() - interval '1 second'`);

  await store.prune();

  expect(await testDatabase.query(`select key from rate_limits where key = 'gone'`)).toEqual([]);
  await store.close();
});

describe('a store of limits that does not answer', () => {
  it('lets those in who open or stop, refuses what costs a model, and waits for neither', async () => {
    const config = configOf({ REDIS_URL: `redis://127.0.0.1:${await freePort()}` });
    const store = new RedisLimitStore(config, 'none', () => undefined);
    const limits = new RateLimits(config, store);
    const startedAt = performance.now();

    await limits.take([{ limit: 'sessionsPerAddress', of: '203.0.113.1' }], null, StoreDown.Allow);
    await expect(
      limits.take([{ limit: 'messagesPerSession', of: 'x' }], null, StoreDown.Refuse),
    ).rejects.toMatchObject({
      code: 'service_unavailable',
      options: { retryAfterSeconds: 1 },
    });

    expect(performance.now() - startedAt).toBeLessThan(5_000);
    await store.close();
  });

  it('lets no more through in a burst than the limits say, by what the process counts itself', async () => {
    const config = configOf({
      REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
      LIMIT_SESSIONS_PER_ADDRESS: '3/60',
    });
    const silent = {
      take: () => new Promise(() => undefined),
      hold: () => new Promise(() => undefined),
      letGo: async () => undefined,
    };
    const limits = new RateLimits(config, silent as unknown as LimitStore);
    const uses = [{ limit: 'sessionsPerAddress' as const, of: '203.0.113.1' }];
    const openings = await Promise.allSettled(
      Array.from({ length: 20 }, () => limits.take(uses, null, StoreDown.Allow)),
    );
    expect(openings.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(openings.at(-1)).toMatchObject({ reason: { code: 'rate_limited' } });
    await limits.take([{ ...uses[0]!, of: '203.0.113.2' }], null, StoreDown.Allow);

    const chatbot = { id: randomUUID(), limits: { streamsPerSession: { max: 4 } } };
    const streams = await Promise.allSettled(
      Array.from({ length: 20 }, () => limits.hold([{ limit: 'streamsPerSession', of: 'x' }], chatbot)),
    );
    const held = streams.flatMap((stream) => (stream.status === 'fulfilled' ? [stream.value] : []));
    expect(held).toHaveLength(4);
    held[0]!();
    held[0]!();
    const again = await Promise.allSettled(
      [1, 2].map(() => limits.hold([{ limit: 'streamsPerSession', of: 'x' }], chatbot)),
    );
    expect(again.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    limits.onModuleDestroy();
  });

  it('does not matter where limits are off', async () => {
    const config = configOf({ REDIS_URL: `redis://127.0.0.1:${await freePort()}`, LIMITS_ENABLED: 'false' });
    const store = new RedisLimitStore(config, 'none', () => undefined);

    await new RateLimits(config, store).take(
      [{ limit: 'messagesPerSession', of: 'x' }],
      null,
      StoreDown.Refuse,
    );
    await store.close();
  });
});

it.each([
  ['203.0.113.9', ['203.0.113.9']],
  ['::ffff:203.0.113.9', ['203.0.113.9']],
  ['::ffff:cb00:7109', ['203.0.113.9']],
  ['2001:db8:1:2:3:4:5:6', ['2001:db8:1:2::/64', '2001:db8:1::/48']],
  ['2001:0DB8:0001:0002::', ['2001:db8:1:2::/64', '2001:db8:1::/48']],
  ['fe80::1%eth0', ['fe80::/64', 'fe80::/48']],
  ['::1', ['::/64', '::/48']],
  ['', ['unknown']],
  ['unix:', ['unknown']],
  [undefined, ['unknown']],
])('the address %s counts as %j', (address, networks) => {
  expect(networksOf(address)).toEqual(networks);
});
