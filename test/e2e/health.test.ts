import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import type { Json } from '../support/api-client.js';
import { checkedFetch } from '../support/contract.js';
import { cpuMsOf } from '../support/cpu-time.js';
import { createApp, loadConfig, Role } from '../support/product.js';
import { readText } from '../support/deploy-files.mjs';
import { Stack } from '../support/stack.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** How late a load balancer may be answered whatever hangs: it does not wait longer. */
const DEADLINE_MS = 5_000;
/** A check's own deadline: ten in a row would take as long as that. */
const CHECK_TIMEOUT_MS = DEADLINE_MS / 10;

const OPERATOR = { user: 'operator', password: 'a long pass:word' };
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const AUTHORIZATION = basic(OPERATOR.user, OPERATOR.password);

jest.setTimeout(120_000);

let stack: Stack;
/** On PostgreSQL alone one store holds all, so this is it; elsewhere Redis. */
let proxies: { postgres: TcpProxy; redis: TcpProxy | null };
/** The two roles, each on its own port. */
let urls: { api: string; worker: string };

async function start(readinessCheckTimeoutMs = CHECK_TIMEOUT_MS): Promise<void> {
  stack = await Stack.start({
    apis: 0,
    workers: 0,
    timings: { readinessCheckTimeoutMs },
    env: { BULL_BOARD_USER: OPERATOR.user, BULL_BOARD_PASSWORD: OPERATOR.password },
  });
  const redisUrl = process.env['ASSISTLY_TEST_REDIS_URL'];
  proxies = {
    postgres: await startTcpProxy(stack.database.url),
    redis: stack.redisPrefix !== undefined && redisUrl ? await startTcpProxy(redisUrl, 6379) : null,
  };
  const env: Record<string, string> = {
    DATABASE_URL: proxies.postgres.url,
    ...(proxies.redis && { REDIS_URL: proxies.redis.url }),
  };
  const { url } = await stack.addApi(env);
  const worker = await stack.addWorker(env);
  await worker.listen(0, '127.0.0.1');
  urls = { api: url, worker: (await worker.getUrl()).replace('[::1]', '127.0.0.1') };
  await Promise.all(Object.values(urls).map((at) => untilReady(at)));
}

async function stop(): Promise<void> {
  await stack.stop();
  await proxies.postgres.close();
  await proxies.redis?.close();
}

interface Answer {
  status: number;
  body: Json;
  text: string;
  tookMs: number;
  /** What this thread, which all of the stack shares, computed meanwhile. */
  computedMs: number;
}

async function ask(url: string, path: string, authorization?: string): Promise<Answer> {
  const askedAt = performance.now();
  let status = 0;
  let text = '';
  const computedMs = await cpuMsOf(async () => {
    const response = await checkedFetch(url + path, { headers: authorization ? { authorization } : {} });
    status = response.status;
    text = await response.text();
  });
  return { status, body: JSON.parse(text), text, tookMs: performance.now() - askedAt, computedMs };
}

const ready = (url: string, authorization?: string): Promise<Answer> =>
  ask(url, '/health/ready', authorization);

async function untilReady(url: string): Promise<Answer> {
  return waitFor(
    'readiness',
    async () => {
      const answer = await ready(url);
      return answer.status === 200 ? answer : null;
    },
    { timeoutMs: 30_000 },
  );
}

/** The names of the missing parts, as anybody is told. */
const missingIn = ({ body }: Answer): string[] =>
  /^Not ready\. Missing: (.*)\.$/.exec(body.detail)?.[1]?.split(', ') ?? [];

/** What a role needs, and nothing else. */
const partsOf = (role: 'api' | 'worker'): string[] => [
  'database',
  'event stream',
  'migrations',
  'queue',
  ...(stack.redisPrefix === undefined ? [] : ['Redis as the settings name it']),
  ...(role === 'worker' ? ['worker'] : []),
];

describe.each(['api', 'worker'] as const)('the health of the %s', (role) => {
  beforeAll(() => start());
  afterAll(stop);

  it('tells anybody that it is good, and nothing else', async () => {
    expect((await ask(urls[role], '/health/live')).body).toEqual({ status: 'ok' });
    expect((await ready(urls[role])).body).toEqual({ status: 'ok' });
  });

  it('tells the operator of every part', async () => {
    const { status, body } = await ready(urls[role], AUTHORIZATION);

    expect([status, body.status]).toEqual([200, 'ok']);
    expect(body.build).toEqual({
      version: JSON.parse(readText('package.json')).version,
      commit: expect.stringMatching(/^([0-9a-f]{40}|unknown)$/),
    });
    expect(body.parts).toHaveLength(partsOf(role).length);
    expect(body.parts).toEqual(expect.arrayContaining(partsOf(role).map((name) => ({ name, status: 'up' }))));
  });

  it.each([
    ['a wrong password', basic(OPERATOR.user, 'wrong')],
    ['another user', basic('root', OPERATOR.password)],
    ['no password', basic(OPERATOR.user, '')],
    ['a token', `Bearer ${OPERATOR.password}`],
    ['nonsense', 'Basic !!!'],
  ])('is the public’s to whoever sends %s', async (_, authorization) => {
    expect(await ready(urls[role], authorization)).toMatchObject({ status: 200, body: { status: 'ok' } });
    expect((await ready(urls[role], authorization)).body).toEqual({ status: 'ok' });
  });
});

describe('a migration that has not run', () => {
  beforeEach(() => start());
  afterEach(stop);

  it('is named, the product’s own by its name', async () => {
    await stack.database.query('delete from mikro_orm_migrations where id > 2');

    for (const url of Object.values(urls)) {
      const answer = await ready(url);
      expect([answer.status, missingIn(answer)]).toEqual([503, ['migrations']]);
      expect(answer.body).not.toHaveProperty('parts');
      const { body } = await ready(url, AUTHORIZATION);
      expect(body.parts).toContainEqual({
        name: 'migrations',
        status: 'down',
        reason: expect.stringContaining('not run yet: Migration20261122154105_cancel_retry_idempotency'),
      });
    }
  });

  it('is named, BullMQ’s by its number', async () => {
    await stack.database.query('delete from bullmq.migration where version > 3');

    for (const url of Object.values(urls)) {
      const answer = await ready(url, AUTHORIZATION);
      expect([answer.status, missingIn(answer)]).toEqual([503, ['migrations']]);
      expect(answer.body.parts).toContainEqual({
        name: 'migrations',
        status: 'down',
        reason: expect.stringMatching(/^not run yet: BullMQ \d+$/),
      });
    }
  });

  it('keeps no process from starting, which becomes ready when it has run', async () => {
    const rows = await stack.database.query('delete from mikro_orm_migrations where id > 2 returning name');
    const bull = await stack.database.query(
      'delete from bullmq.migration where version > 3 returning to_jsonb(migration) as row',
    );
    const { url } = await stack.addApi();

    const first = await ready(url, AUTHORIZATION);
    expect(missingIn(first)).toEqual(expect.arrayContaining(['migrations', 'queue']));
    for (const { name } of rows)
      await stack.database.query('insert into mikro_orm_migrations (name) values ($1)', [name]);
    for (const { row } of bull)
      await stack.database.query(
        'insert into bullmq.migration select * from jsonb_populate_record(null::bullmq.migration, $1)',
        [JSON.stringify(row)],
      );

    await untilReady(url);
  });
});

describe('a store that is gone', () => {
  beforeEach(() => start());
  afterEach(stop);

  it('is told in codes, without address, credential or SQL, until it is back', async () => {
    for (const proxy of [proxies.postgres, proxies.redis]) {
      proxy?.refuse(true);
      proxy?.cut();
    }

    for (const url of Object.values(urls)) {
      const answer = await waitFor('the trouble to be noticed', async () => {
        const got = await ready(url, AUTHORIZATION);
        const missing = missingIn(got);
        return missing.includes('database') && missing.includes('event stream') ? got : null;
      });

      expect(answer.status).toBe(503);
      const down = answer.body.parts.filter((part: Json) => part.status === 'down');
      expect(down.map(({ name }: Json) => name)).toEqual(missingIn(answer));
      for (const { reason } of down)
        expect(reason).toMatch(/^(error( [A-Z0-9_]+)?|no answer within \d+ ms)$/);
      const { hostname, port, username, pathname } = new URL(proxies.postgres.url);
      for (const secret of [`${hostname}:${port}`, `${username}@`, pathname, 'select', '://']) {
        expect(answer.text).not.toContain(secret);
      }
    }
    for (const proxy of [proxies.postgres, proxies.redis]) proxy?.refuse(false);
    await Promise.all(Object.values(urls).map((url) => untilReady(url)));
  });

  it.each(['postgres', 'redis'] as const)(
    '%s hangs, and health answers within its deadline',
    async (name) => {
      const proxy = proxies[name];
      if (!proxy) {
        expect(stack.redisPrefix).toBeUndefined(); // there is no Redis to hang
        return;
      }
      proxy.swallow('both');

      // Many at once, and again while the first wait: none may queue behind another.
      for (let round = 0; round < 3; round++) {
        const answers = await Promise.all(
          Object.values(urls).flatMap((url) => Array.from({ length: 10 }, () => ready(url, AUTHORIZATION))),
        );
        for (const answer of answers) {
          expect(answer.status).toBe(503);
          expect(missingIn(answer)).toEqual(
            expect.arrayContaining(
              name === 'postgres' ? ['database', 'migrations'] : ['event stream', 'queue'],
            ),
          );
          if (name === 'redis') expect(missingIn(answer)).not.toContain('database');
          expect(answer.tookMs).toBeLessThan(DEADLINE_MS);
        }
        for (const url of Object.values(urls)) {
          const live = await ask(url, '/health/live');
          expect(live.status).toBe(200);
          expect(live.tookMs).toBeLessThan(DEADLINE_MS);
        }
      }

      proxy.recover();
      await Promise.all(Object.values(urls).map((url) => untilReady(url)));
    },
  );
});

describe('a process that is busy', () => {
  // The thread that everything shares here is what is slow, not a store; and how long other processes keep the machine
  // from it says nothing about it: what it computes until it answers is counted.
  beforeAll(() => start(60_000));
  afterAll(stop);

  it('answers as soon as its event loop is free again', async () => {
    const answers = ['/health/live', '/health/ready'].map((path) => ask(urls.api, path));
    await new Promise((resolve) => setTimeout(resolve, 20)); // the requests are on their way
    const blockedUntil = performance.now() + 700;
    while (performance.now() < blockedUntil);

    for (const { status, computedMs } of await Promise.all(answers)) {
      expect(status).toBe(200);
      expect(computedMs).toBeLessThan(700 + DEADLINE_MS);
    }
  });
});

describe('in production', () => {
  it('there is no operator without a password, and nobody gets details', async () => {
    const other = await Stack.start({ apis: 0, workers: 0 });
    const config = loadConfig(
      Role.Worker,
      {
        NODE_ENV: 'production',
        LOG_LEVEL: 'silent',
        DATABASE_URL: other.database.url,
        OPENAI_BASE_URL: 'http://127.0.0.1:1/v1',
        ...(other.redisPrefix !== undefined && {
          REDIS_URL: process.env['ASSISTLY_TEST_REDIS_URL'],
          REDIS_PREFIX: `test-${randomBytes(6).toString('hex')}`,
        }),
      },
      other.stateDir,
    );
    const app = await createApp(config);
    await app.listen(0, '127.0.0.1');
    const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');

    for (const authorization of [basic('operator', ''), basic('', ''), basic('undefined', 'undefined')]) {
      expect((await ready(url, authorization)).body).not.toHaveProperty('parts');
    }

    await app.close();
    await other.stop();
  });
});
