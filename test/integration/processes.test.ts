import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { removeEmbeddedPostgres } from '../../src/database/embedded-postgres.js';
import { migrations } from '../../src/database/migrations/index.js';
import { ApiClient, type Json } from '../support/api-client.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import {
  createInstallation,
  type Installation,
  launch as launchRole,
  Program,
  type RunningRole as Role,
  untilReady,
} from '../support/program.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { textOf } from '../support/sse-recorder.js';
import { waitFor } from '../support/wait.js';

/**
 * The built product as what it is run as: processes with an environment, ports, signals and exit codes. Every
 * one of them runs as in production, except where the test is about something else.
 */

jest.setTimeout(120_000); // a process takes two seconds to start, and many more on a busy machine

const BACKENDS = globalThis.HAS_REDIS ? (['postgres', 'redis'] as const) : (['postgres'] as const);
type Backend = (typeof BACKENDS)[number];

/** How many watch a session whose api stops; the fault plan says 200, which takes long on two cores. */
const WATCHERS = Number(process.env['WATCHERS'] ?? 20);

let cwd: string;
let programs: Program[];

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'assistly-processes-'));
  programs = [];
});
afterEach(async () => {
  for (const program of programs) program.signal('SIGKILL');
  await Promise.all(programs.map(({ exited }) => exited));
  rmSync(cwd, { recursive: true, force: true });
});

function run(program: 'main.js' | 'cli/migrate.js', args: string[], env: Record<string, string>): Program {
  const started = new Program(program, args, env, cwd);
  programs.push(started);
  return started;
}

/** Starts something that must refuse, and gives what it said. */
async function refusal(args: string[], env: Record<string, string>): Promise<string> {
  const program = run('main.js', args, env);
  expect(await program.exited).toBe(1);
  return program.stderr;
}

describe('a process that cannot run', () => {
  it.each(['api', 'worker'])('refuses to run as %s without DATABASE_URL, and says why', async (role) => {
    const said = await refusal([role], {});

    expect(said).toMatch(/^The configuration is not usable:\n {2}- DATABASE_URL is missing: /);
    expect(said).toContain('npm start');
    expect(said).not.toMatch(/\n\s+at /); // a stack is for bugs
  });

  it('names every wrong and missing variable at once, without the value of a secret', async () => {
    const said = await refusal(['api'], {
      PORT: 'eighty',
      LOG_LEVEL: 'loud',
      REPLY_ATTEMPTS: '0',
      REDIS_URL: 'http://user:canary-redis@host',
      OPENAI_API_KEY: 'sk-canary-openai',
      CLERK_JWT_KEY: 'canary-clerk',
      BULL_BOARD_PASSWORD: 'canary-board',
      TRUST_PROXY: 'true',
      CORS_ORIGINS: 'https://app.example.com,app.example.org',
    });

    for (const sentence of [
      'PORT must be a whole number, not "eighty"',
      'LOG_LEVEL must be fatal, error, warn, info, debug, trace or silent, not "loud"',
      'REPLY_ATTEMPTS must be at least 1, not "0"',
      'REDIS_URL must be a URL that starts with redis:// or rediss://',
      'CLERK_JWT_KEY must be the PEM public key',
      'BULL_BOARD_USER and BULL_BOARD_PASSWORD belong together',
      'TRUST_PROXY must be the number of proxies',
      'CORS_ORIGINS holds "app.example.org"',
      'DATABASE_URL is missing',
    ]) {
      expect(said).toContain(`  - ${sentence}`);
    }
    expect(said).not.toContain('canary');
  });

  it('needs a database, Clerk and a model in production', async () => {
    const said = await refusal([], { NODE_ENV: 'production' });

    expect(said).toContain('DATABASE_URL is missing: the embedded PostgreSQL is not for production');
    expect(said).toContain('CLERK_JWT_KEY or CLERK_SECRET_KEY is missing');
    expect(said).toContain('OPENAI_API_KEY or OPENAI_BASE_URL is missing');
  });

  it('asks an api for no model and a worker for no Clerk', async () => {
    const env = { NODE_ENV: 'production', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' };

    const [api, worker] = await Promise.all([refusal(['api'], env), refusal(['worker'], env)]);

    expect(api).toContain('CLERK_JWT_KEY');
    expect(api).not.toContain('OPENAI');
    expect(worker).toContain('OPENAI_API_KEY');
    expect(worker).not.toContain('CLERK');
  });

  it('does not guess a role', async () => {
    expect(await refusal(['workers'], {})).toContain('Unknown role "workers"');
  });

  it.each([
    ['api', 'PORT'],
    ['worker', 'WORKER_HEALTH_PORT'],
  ])('names the port that is taken, as %s', async (role, variable) => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };

    const said = await refusal([role], {
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing', // not needed for this
      [variable]: String(port),
    });

    other.close();
    expect(said).toBe(`Port ${port} is taken by another program. Set ${variable} to a free one.\n`);
  });

  it('does not migrate what it is not told', async () => {
    const [unset, foreign] = [
      run('cli/migrate.js', [], {}),
      run('cli/migrate.js', [], { DATABASE_URL: 'mysql://root:canary@localhost/db' }),
    ];

    expect([await unset.exited, await foreign.exited]).toEqual([1, 1]);
    expect(unset.stderr).toContain('DATABASE_URL is missing');
    expect(foreign.stderr).toContain('DATABASE_URL must be a URL that starts with postgres://');
    expect(foreign.stderr).not.toContain('canary');
  });
});

describe('with nothing configured', () => {
  it('stops the database that it was bringing up, when it is told to stop meanwhile', async () => {
    const program = run('main.js', [], { PORT: '0' });
    await waitFor('the database to be made', () => program.stdout.includes('Creating a database in '));
    const directory = /Creating a database in (.*)/.exec(program.stdout)?.[1] ?? '';

    expect(await program.stop()).toBe(0);

    expect(existsSync(join(directory, 'cluster', 'data', 'PG_VERSION'))).toBe(true);
    expect(existsSync(join(directory, 'cluster', 'data', 'postmaster.pid'))).toBe(false);
    await removeEmbeddedPostgres(join(cwd, '.assistly'));
  });
});

describe.each(BACKENDS)('apis and workers on %s', (backend: Backend) => {
  let database: TestDatabase;
  let provider: RawProvider;
  let ownerToken: string;
  let installation: Installation;

  beforeAll(async () => {
    provider = await startRawProvider();
  });
  afterAll(() => provider.close());

  beforeEach(async () => {
    database = await createTestDatabase();
    installation = createInstallation(cwd, {
      databaseUrl: database.url,
      backend,
      modelUrl: provider.baseUrl,
    });
    ({ ownerToken } = installation);
  });
  afterEach(async () => {
    for (const program of programs) program.signal('SIGKILL');
    await Promise.all(programs.map(({ exited }) => exited));
    await database.drop();
  });

  const launch = (role: 'api' | 'worker', more: Record<string, string> = {}): Promise<Role> =>
    launchRole(installation, role, more, (program) => programs.push(program));

  async function launchReady(role: 'api' | 'worker', more: Record<string, string> = {}): Promise<Role> {
    const launched = await launch(role, more);
    await untilReady(launched);
    return launched;
  }

  async function readiness({ url }: Role): Promise<{ status: number; detail: string }> {
    const { status, body } = await new ApiClient(url).get<{ detail?: string }>('/health/ready');
    return { status, detail: body.detail ?? '' };
  }

  /** A session with a chatbot of a model, which says what the provider does. */
  async function openSession(
    api: Role,
    model: string,
  ): Promise<{ id: string; guest: ApiClient; token: string }> {
    const client = new ApiClient(api.url);
    const chatbot = await client.as(ownerToken).createChatbot({ name: 'Bakery', model });
    const { session, guest, token } = await client.openSession(chatbot.id);
    return { id: session.id, guest, token };
  }

  async function isAnswered(api: Role, question: string): Promise<void> {
    const { id, guest } = await openSession(api, 'ok');
    const { reply } = await guest.postMessage(id, question);
    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed' });
    expect((await guest.messages(id)).map(({ content }: Json) => content)).toEqual([
      question,
      answerTo(question),
    ]);
  }

  /** The connections of the product to the test's database. */
  async function connections(): Promise<string[]> {
    const admin = new pg.Client({ connectionString: process.env['ASSISTLY_TEST_ADMIN_URL'] });
    await admin.connect();
    try {
      const { rows } = await admin.query<{ application_name: string }>(
        `select application_name from pg_stat_activity where datname = $1 and backend_type = 'client backend'`,
        [new URL(database.url).pathname.slice(1)],
      );
      return rows.map((row) => row.application_name);
    } finally {
      await admin.end();
    }
  }

  it('answer messages together, several of each, and their logs lead from one to the other', async () => {
    const [api, otherApi, worker, otherWorker] = await Promise.all([
      launchReady('api'),
      launchReady('api'),
      launchReady('worker'),
      launchReady('worker'),
    ]);
    const owner = new ApiClient(api.url, ownerToken);
    const chatbot = await owner.createChatbot({
      name: 'Bakery',
    });
    const sessions = await Promise.all(
      Array.from({ length: 8 }, () =>
        new ApiClient(otherApi.url).openSession(chatbot.id, {
          guest: { name: 'canary-guest', email: 'canary@example.com' },
        }),
      ),
    );
    const posts = await Promise.all(
      sessions.map(async ({ session, guest }, i) => {
        const through = guest.at([api.url, otherApi.url][i % 2]!);
        return { session, guest, ...(await through.postMessage(session.id, `Question ${i}?`)) };
      }),
    );
    for (const { guest, reply } of posts) {
      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    }
    const [{ session, guest }] = sessions as [(typeof sessions)[number]];
    const named = await guest.at(api.url).request('POST', `/v1/sessions/${session.id}/messages`, {
      body: JSON.stringify({ content: 'Named?' }),
      headers: { 'content-type': 'application/json', 'x-request-id': 'request-of-the-test' },
    });
    await guest.finalReply(named.body.reply.id);
    const roles = [api, otherApi, worker, otherWorker];
    expect(await Promise.all(roles.map(({ program }) => program.stop()))).toEqual([0, 0, 0, 0]);

    expect(roles.map(({ program }) => program.stderr)).toEqual(['', '', '', '']);

    // One line a request and one a reply attempt, and each leads to the other.
    const request = api.program.log.find(({ requestId }) => requestId === 'request-of-the-test');
    expect(request).toMatchObject({
      msg: 'request completed',
      req: { method: 'POST', url: `/v1/sessions/${session.id}/messages` },
      res: { status: 202 },
    });
    const workers = [...worker.program.log, ...otherWorker.program.log];
    expect(workers.find(({ requestId }) => requestId === 'request-of-the-test')).toMatchObject({
      event: 'reply.attempt_ended',
      msg: 'reply attempt ended: completed',
      replyId: named.body.reply.id,
      sessionId: session.id,
      attempt: 1,
      outcome: 'completed',
    });
    const answered = workers.filter(({ outcome }) => outcome === 'completed');
    expect(answered).toHaveLength(posts.length + 1);
    await waitFor('the connections to be gone', async () => (await connections()).length === 0);
  });

  it('a worker answers on its health port, and on nothing else', async () => {
    const worker = await launchReady('worker');
    const client = new ApiClient(worker.url, ownerToken);

    expect((await client.get('/health/live')).status).toBe(200);
    expect((await client.get('/health/ready')).body).toEqual({ status: 'ok' });
    for (const path of ['/v1/chatbots', '/docs', '/openapi.json', '/admin/queues']) {
      // Not through the client, which knows the routes of an api.
      expect((await fetch(worker.url + path)).status).toBe(404);
    }
  });

  it('a worker that stops finishes what it has begun, takes nothing new, and leaves no connection', async () => {
    const [api, worker] = await Promise.all([launchReady('api'), launchReady('worker')]);
    const begun = await openSession(api, 'pace:150');
    const { reply, cursor } = await begun.guest.postMessage(begun.id, 'Finish this?');
    const stream = begun.guest.follow(begun.id, { after: cursor });
    await stream.next('reply.delta', reply.id);

    worker.program.signal('SIGTERM');
    await waitFor('the worker to tell that it stops', async () => {
      const { status, detail } = await readiness(worker);
      return status === 503 && detail === 'The process is stopping.';
    }).catch(() => undefined); // its port may close at once
    worker.program.signal('SIGTERM'); // a second one, by an impatient host
    const waiting = await openSession(api, 'ok');
    const late = await waiting.guest.postMessage(waiting.id, 'And this?');

    expect(await worker.program.exited).toBe(0);
    const finished = await stream.next('reply.completed', reply.id);
    expect(finished.data).toMatchObject({
      reply: { status: 'completed', attempt: 1 },
      message: { content: answerTo('Finish this?') },
    });
    expect(stream.textOf(reply.id)).toBe(answerTo('Finish this?'));
    expect(await waiting.guest.get(`/v1/replies/${late.reply.id}`)).toMatchObject({
      body: { status: 'queued' },
    });
    await stream.close();
    await api.program.stop();
    await waitFor('the connections to be gone', async () => (await connections()).length === 0);

    const [next] = await Promise.all([launchReady('api'), launchReady('worker')]);
    const reply2 = await waiting.guest.at(next.url).finalReply(late.reply.id);
    expect(reply2).toMatchObject({ status: 'completed', attempt: 1 });
  });

  it('a worker that may not wait hands its reply back, and another one finishes it at no charge', async () => {
    const [api, worker] = await Promise.all([
      launchReady('api', { REPLY_ATTEMPTS: '1' }),
      launchReady('worker', { DRAIN_TIMEOUT_MS: '200', REPLY_ATTEMPTS: '1' }),
    ]);
    const { id, guest } = await openSession(api, 'pace:300');
    const { reply, cursor } = await guest.postMessage(id, 'Hand this over?');
    const stream = guest.follow(id, { after: cursor });
    await stream.next('reply.delta', reply.id);

    const stoppedAt = performance.now();
    expect(await worker.program.stop()).toBe(0);

    expect(performance.now() - stoppedAt).toBeLessThan(15_000);
    expect(worker.program.log.find(({ event }) => event === 'reply.attempt_ended')).toMatchObject({
      replyId: reply.id,
      outcome: 'handed_back',
    });
    await launchReady('worker', { REPLY_ATTEMPTS: '1' });
    const finished = await stream.next('reply.completed', reply.id);
    expect(finished.data).toMatchObject({
      reply: { status: 'completed', attempt: 2 }, // of the one that is allowed: a hand-back is no failure
      message: { content: answerTo('Hand this over?') },
    });
    expect(stream.textOf(reply.id)).toBe(answerTo('Hand this over?'));
    const calls = provider.calls.filter(({ question }) => question === 'Hand this over?');
    expect(await Promise.all(calls.map(({ ended }) => ended))).toEqual(['client', 'provider']);
    await stream.close();
  });

  it('an api that stops ends its event streams with `retry:`, and another one carries on', async () => {
    const [api, otherApi] = await Promise.all([
      launchReady('api'),
      launchReady('api'),
      launchReady('worker'),
    ]);
    const { id, guest } = await openSession(api, 'pace:150');
    const { reply, cursor } = await guest.postMessage(id, 'Follow me?');
    const stream = guest.follow(id, { after: cursor });
    const poll = guest.get(`/v1/replies/${reply.id}?wait=30`);
    const others = await Promise.all(
      Array.from({ length: WATCHERS }, () => guest.follow(id, { after: cursor }).opened()),
    );
    await stream.next('reply.delta', reply.id);

    const stoppedAt = performance.now();
    expect(await api.program.stop()).toBe(0);

    expect(performance.now() - stoppedAt).toBeLessThan(5_000);
    await stream.ended;
    expect(stream.error).toBeNull();
    expect(stream.retries).toHaveLength(2); // at the beginning, and with the end
    expect((await poll).body).toMatchObject({ id: reply.id, status: 'in_progress' });
    const resumed = guest.at(otherApi.url).follow(id, { lastEventId: stream.lastEventId });
    const finished = await resumed.next('reply.completed', reply.id);
    const deltas = [...stream.events, ...resumed.events].filter(({ event }) => event === 'reply.delta');
    expect(deltas.map(({ data }) => data.text).join('')).toBe(finished.data.message.content);
    await resumed.close();
    await Promise.all(
      others.map(async (other) => {
        await other.ended;
        const rest = guest.at(otherApi.url).follow(id, { lastEventId: other.lastEventId });
        await rest.next('reply.completed', reply.id);
        await rest.close();
        expect(other.error).toBeNull();
        expect(textOf([...other.events, ...rest.events], reply.id)).toBe(finished.data.message.content);
      }),
    );
  });

  it('start on a database without tables, say that the migrations are missing, and work once they have run', async () => {
    const admin = new pg.Client({ connectionString: process.env['ASSISTLY_TEST_ADMIN_URL'] });
    await admin.connect();
    const name = `assistly_test_${randomBytes(6).toString('hex')}`;
    await admin.query(`create database ${name}`);
    const empty = new URL(database.url);
    empty.pathname = `/${name}`;
    const DATABASE_URL = empty.href;
    try {
      const [api, worker] = await Promise.all([
        launch('api', { DATABASE_URL }),
        launch('worker', { DATABASE_URL }),
      ]);
      for (const role of [api, worker]) {
        const { status, detail } = await readiness(role);
        expect(status).toBe(503);
        expect(detail).toContain('migrations');
        expect(detail).not.toContain('database');
        const told = role.program.log.find(({ msg }) => msg.startsWith('the queue is not open'))?.msg;
        expect(told).toContain('npm run db:migrate');
        for (const { name } of migrations) expect(told).toContain(name);
        expect(told).toMatch(/BullMQ \d+$/);
      }

      const runs = [1, 2, 3, 4, 5].map(() => run('cli/migrate.js', [], { DATABASE_URL })); // at once
      expect(await Promise.all(runs.map(({ exited }) => exited))).toEqual([0, 0, 0, 0, 0]);

      expect(runs.map(({ stdout }) => stdout).sort()).toEqual([
        `Migrated: ${migrations.map(({ name }) => name).join(', ')}.\n`,
        ...Array.from({ length: 4 }, () => 'The schema is up to date.\n'),
      ]);
      await Promise.all([untilReady(api), untilReady(worker)]);
      await isAnswered(api, 'Are you there now?');
      expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);
    } finally {
      for (const program of programs) program.signal('SIGKILL');
      await admin.query(`drop database if exists ${name} with (force)`);
      await admin.end();
    }
  });

  it.each(backend === 'redis' ? ['DATABASE_URL', 'REDIS_URL'] : ['DATABASE_URL'])(
    'start although the server of %s does not answer, and work once it does',
    async (variable) => {
      const network = await startTcpProxy(installation.env[variable]!);
      network.refuse(true);
      const [api, worker] = await Promise.all([
        launch('api', { [variable]: network.url }),
        launch('worker', { [variable]: network.url }),
      ]);
      for (const role of [api, worker]) {
        const { status, detail } = await readiness(role);
        expect(status).toBe(503);
        expect(detail).toContain(variable === 'DATABASE_URL' ? 'database' : 'queue');
      }

      network.refuse(false);

      await Promise.all([untilReady(api), untilReady(worker)]);
      await isAnswered(api, 'Are you back?');
      expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);
      await network.close();
    },
  );

  it.each(backend === 'redis' ? ['DATABASE_URL', 'REDIS_URL'] : ['DATABASE_URL'])(
    'stop when told to after the server of %s has vanished',
    async (variable) => {
      const network = await startTcpProxy(installation.env[variable]!);
      const [api, worker] = await Promise.all([
        launchReady('api', { [variable]: network.url }),
        launchReady('worker', { [variable]: network.url }),
      ]);
      network.refuse(true);
      network.cut();

      const stoppedAt = performance.now();
      expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);

      expect(performance.now() - stoppedAt).toBeLessThan(20_000);
      await network.close();
    },
  );

  it.each([
    ['refuses', (network: TcpProxy) => network.refuse(true)],
    ['accepts and says nothing', (network: TcpProxy) => network.swallow('both')],
  ])('stop when told to while their database %s', async (_, fail) => {
    const network = await startTcpProxy(database.url);
    fail(network);
    const roles = await Promise.all([
      launch('api', { DATABASE_URL: network.url }),
      launch('worker', { DATABASE_URL: network.url }),
    ]);

    const stoppedAt = performance.now();
    expect(await Promise.all(roles.map(({ program }) => program.stop()))).toEqual([0, 0]);

    expect(performance.now() - stoppedAt).toBeLessThan(20_000);
    await network.close();
  });
});
