import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { removeEmbeddedPostgres } from '../../src/dev/embedded-postgres/embedded-postgres.js';
import { ApiClient } from '../support/api-client.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { readText } from '../support/deploy-files.mjs';
import { type Backend, BACKENDS } from '../support/conversations.js';
import {
  createInstallation,
  type Installation,
  launchReady as launchRole,
  openSession,
  Program,
  type RunningRole as Role,
} from '../support/program.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { textOf } from '../support/sse-recorder.js';
import { waitFor } from '../support/wait.js';

/**
 * The built product as what it is run as: processes with an environment, ports, signals and exit codes. Every
 * one of them runs as in production, except where the test is about something else.
 */

jest.setTimeout(120_000); // a process takes a second to start, and many more on a busy machine

/** How many watch a session whose api stops; the fault plan says 200, which takes long on two cores. */
const WATCHERS = Number(process.env['WATCHERS'] ?? 20);

const programs: Program[] = [];
afterAll(async () => {
  for (const program of programs) program.signal('SIGKILL');
  await Promise.all(programs.map(({ exited }) => exited));
});

function start(...args: ConstructorParameters<typeof Program>): Program {
  const started = new Program(...args);
  programs.push(started);
  return started;
}

/** Starts something that must refuse, and gives what it said on standard error. */
async function refusal(
  args: string[],
  env: Record<string, string>,
  program: 'main.js' | 'cli/migrate.js' = 'main.js',
): Promise<string> {
  return (await refused(args, env, program)).stderr;
}

async function refused(
  args: string[],
  env: Record<string, string>,
  program: 'main.js' | 'cli/migrate.js' = 'main.js',
): Promise<Pick<Program, 'stdout' | 'stderr'>> {
  const cwd = mkdtempSync(join(tmpdir(), 'assistly-refusal-'));
  const refusing = start(program, args, env, cwd);
  expect(await refusing.exited).toBe(1);
  rmSync(cwd, { recursive: true, force: true });
  return refusing;
}

describe('a process that cannot run', () => {
  it.concurrent.each(['api', 'worker'])(
    'refuses to run as %s without DATABASE_URL, and says why',
    async (role) => {
      const said = await refusal([role], {});

      expect(said).toMatch(/^The configuration is not usable:\n {2}- DATABASE_URL is missing: /);
      expect(said).toContain('npm start');
      expect(said).not.toMatch(/\n\s+at /); // a stack is for bugs
    },
  );

  it.concurrent('names every wrong and missing variable at once, without the value of a secret', async () => {
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

  it.concurrent('needs a database, Clerk and a model in production', async () => {
    const said = await refusal([], { NODE_ENV: 'production' });

    expect(said).toContain('DATABASE_URL is missing: the embedded PostgreSQL is not for production');
    expect(said).toContain('CLERK_JWT_KEY or CLERK_SECRET_KEY is missing');
    expect(said).toContain('OPENAI_API_KEY or OPENAI_BASE_URL is missing');
  });

  it.concurrent('asks an api for no model and a worker for no Clerk', async () => {
    const env = { NODE_ENV: 'production', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' };

    const [api, worker] = await Promise.all([refusal(['api'], env), refusal(['worker'], env)]);

    expect(api).toContain('CLERK_JWT_KEY');
    expect(api).not.toContain('OPENAI');
    expect(worker).toContain('OPENAI_API_KEY');
    expect(worker).not.toContain('CLERK');
  });

  it.concurrent('does not guess a role', async () => {
    expect(await refusal(['workers'], {})).toContain('Unknown role "workers"');
  });

  it.concurrent.each([
    ['api', 'PORT'],
    ['worker', 'WORKER_HEALTH_PORT'],
  ])('names the port that is taken, as %s, and says nothing else', async (role, variable) => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };

    const { stderr, stdout } = await refused([role], {
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing', // not needed for this
      [variable]: String(port),
    });

    other.close();
    expect(stderr).toBe(`Port ${port} is taken by another program. Set ${variable} to a free one.\n`);
    expect(stdout).toBe(''); // no stack trace of a server that could not listen, nor of what it breaks
  });

  it.concurrent('does not migrate what it is not told', async () => {
    const [unset, foreign] = await Promise.all([
      refusal([], {}, 'cli/migrate.js'),
      refusal([], { DATABASE_URL: 'mysql://root:canary@localhost/db' }, 'cli/migrate.js'),
    ]);

    expect(unset).toContain('DATABASE_URL is missing');
    expect(foreign).toContain('DATABASE_URL must be a URL that starts with postgres://');
    expect(foreign).not.toContain('canary');
  });
});

describe('with nothing configured', () => {
  let cwd: string;
  beforeEach(() => {
    cwd = mkdtempSync(join(tmpdir(), 'assistly-processes-'));
  });
  afterEach(() => rmSync(cwd, { recursive: true, force: true }));

  it('stops the database that it was bringing up, when it is told to stop meanwhile', async () => {
    const program = start('main.js', [], { PORT: '0' }, cwd);
    await waitFor('the database to be made', () => program.stdout.includes('Creating a database in '));
    const directory = /Creating a database in (.*)/.exec(program.stdout)?.[1] ?? '';

    expect(await program.stop()).toBe(0);

    expect(existsSync(join(directory, 'cluster', 'data', 'PG_VERSION'))).toBe(true);
    expect(existsSync(join(directory, 'cluster', 'data', 'postmaster.pid'))).toBe(false);
    await removeEmbeddedPostgres(join(cwd, '.assistly'));
  });
});

describe.each(BACKENDS)('apis and workers on %s', (backend: Backend) => {
  let cwd: string;
  let database: TestDatabase;
  let provider: RawProvider;
  let installation: Installation;
  const roles: Record<'api' | 'worker', Role[]> = { api: [], worker: [] };

  beforeAll(async () => {
    cwd = mkdtempSync(join(tmpdir(), 'assistly-processes-'));
    database = await createTestDatabase();
    provider = await startRawProvider();
    installation = createInstallation(cwd, {
      databaseUrl: database.url,
      backend,
      modelUrl: provider.baseUrl,
    });
    installation.env['REPLY_ATTEMPTS'] = '1'; // what costs a reply an attempt fails it
  });
  afterAll(async () => {
    const left = Object.values(roles).flatMap((each) => each.map(({ program }) => program));
    for (const program of left) program.signal('SIGKILL');
    await Promise.all(left.map(({ exited }) => exited));
    await provider.close();
    await database.drop();
    rmSync(cwd, { recursive: true, force: true });
  });

  async function launch(role: 'api' | 'worker', more: Record<string, string> = {}): Promise<Role> {
    const launched = await launchRole(installation, role, more, (program) => programs.push(program));
    roles[role].push(launched);
    return launched;
  }

  /**
   * Exactly so many, ready. Those that an earlier test has left running are taken over: a process that starts costs
   * more than all that a test does with it.
   */
  async function running(counts: { apis: number; workers: number }): Promise<{
    apis: Role[];
    workers: Role[];
  }> {
    const some = async (role: 'api' | 'worker', count: number): Promise<Role[]> => {
      const alive = roles[role].filter(({ program }) => program.isRunning);
      await Promise.all(alive.slice(count).map(({ program }) => program.stop()));
      roles[role] = alive.slice(0, count);
      await Promise.all(Array.from({ length: Math.max(0, count - alive.length) }, () => launch(role)));
      return roles[role];
    };
    const [apis, workers] = await Promise.all([some('api', counts.apis), some('worker', counts.workers)]);
    return { apis, workers };
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

  it('say first what has started, and with what, without a secret', async () => {
    const { apis, workers } = await running({ apis: 1, workers: 1 });

    for (const [role, { program, url }] of [
      ['api', apis[0]!],
      ['worker', workers[0]!],
    ] as const) {
      const [line] = program.log.filter(({ event }) => event === 'process.started');
      expect(line).toMatchObject({
        role,
        version: JSON.parse(readText('package.json')).version,
        commit: expect.stringMatching(/^([0-9a-f]{40}|unknown)$/),
        process: expect.stringMatching(/\/\d+$/),
        address: url,
        database: new URL(database.url).host,
        queue: backend === 'redis' ? 'redis' : 'postgres',
      });
      // What answers is the worker's to say, and who lets owners in the api's.
      const { model, clerk } = line!;
      expect({ model, clerk }).toEqual(role === 'api' ? { clerk: 'by CLERK_JWT_KEY' } : { model: 'ok' });
      expect(JSON.stringify(line)).not.toMatch(/canary|password/);
    }
  });

  it('a worker answers on its health port, and on nothing else', async () => {
    const {
      workers: [worker],
    } = await running({ apis: 1, workers: 1 });
    const client = new ApiClient(worker!.url, installation.ownerToken);

    expect((await client.get('/health/live')).status).toBe(200);
    expect((await client.get('/health/ready')).body).toEqual({ status: 'ok' });
    for (const path of ['/v1/chatbots', '/docs', '/openapi.json', '/admin/queues']) {
      // Not through the client, which knows the routes of an api.
      expect((await fetch(worker!.url + path)).status).toBe(404);
    }
  });

  it('a worker that stops finishes what it has begun, takes nothing new, and leaves no connection', async () => {
    const { apis, workers } = await running({ apis: 1, workers: 1 });
    const [api, worker] = [apis[0]!, workers[0]!];
    const begun = await openSession(installation, api, 'held');
    const { reply, cursor } = await begun.guest.postMessage(begun.id, 'Finish this?');
    const stream = begun.guest.follow(begun.id, { after: cursor });
    await stream.next('reply.delta', reply.id);

    worker.program.signal('SIGTERM');
    await waitFor('the worker to tell that it stops', async () => {
      const { status, body } = await new ApiClient(worker.url).get<{ detail?: string }>('/health/ready');
      return status === 503 && body.detail === 'The process is stopping.';
    });
    worker.program.signal('SIGTERM'); // a second one, by an impatient host
    const waiting = await openSession(installation, api, 'ok');
    const late = await waiting.guest.postMessage(waiting.id, 'And this?');
    (await provider.callAbout('Finish this?')).release();

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

    const { apis: next } = await running({ apis: 1, workers: 1 });
    const reply2 = await waiting.guest.at(next[0]!.url).finalReply(late.reply.id);
    expect(reply2).toMatchObject({ status: 'completed', attempt: 1 });
  });

  it('a worker that may not wait hands its reply back, and another one finishes it at no charge', async () => {
    const { apis } = await running({ apis: 1, workers: 0 });
    const worker = await launch('worker', { DRAIN_TIMEOUT_MS: '200' });
    const { id, guest } = await openSession(installation, apis[0]!, 'held');
    const { reply, cursor } = await guest.postMessage(id, 'Hand this over?');
    const stream = guest.follow(id, { after: cursor });
    await stream.next('reply.delta', reply.id);

    expect(await worker.program.stop()).toBe(0); // while the model has not finished

    expect(worker.program.log.find(({ event }) => event === 'reply.attempt_ended')).toMatchObject({
      replyId: reply.id,
      outcome: 'handed_back',
    });
    await running({ apis: 1, workers: 1 });
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
    const { apis } = await running({ apis: 2, workers: 1 });
    const [api, otherApi] = [apis[0]!, apis[1]!];
    const { id, guest } = await openSession(installation, api, 'held');
    const { reply, cursor } = await guest.postMessage(id, 'Follow me?');
    const stream = guest.follow(id, { after: cursor });
    const poll = guest.get(`/v1/replies/${reply.id}?wait=30`);
    const others = await Promise.all(
      Array.from({ length: WATCHERS }, () => guest.follow(id, { after: cursor }).opened()),
    );
    await stream.next('reply.delta', reply.id);
    const silent = connect(Number(new URL(api.url).port), '127.0.0.1'); // as browsers do in advance
    await once(silent, 'connect');
    silent.resume();

    expect(await api.program.stop()).toBe(0); // while the model has not finished

    if (!silent.closed) await once(silent, 'close');
    await stream.ended;
    expect(stream.error).toBeNull();
    expect(stream.retries).toHaveLength(2); // at the beginning, and with the end
    expect((await poll).body).toMatchObject({ id: reply.id, status: 'in_progress' });
    const resumed = guest.at(otherApi.url).follow(id, { lastEventId: stream.lastEventId });
    (await provider.callAbout('Follow me?')).release();
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

  it('answer messages together, several of each, and their logs lead from one to the other', async () => {
    const { apis, workers } = await running({ apis: 2, workers: 2 });
    const [api, otherApi] = [apis[0]!, apis[1]!];
    const owner = new ApiClient(api.url, installation.ownerToken);
    const chatbot = await owner.createChatbot({ name: 'Bakery' });
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
    const ids = new Set<unknown>(sessions.map(({ session }) => session.id));
    const [{ session, guest }] = sessions as [(typeof sessions)[number]];
    const named = await guest.at(api.url).request('POST', `/v1/sessions/${session.id}/messages`, {
      body: JSON.stringify({ content: 'Named?' }),
      headers: { 'content-type': 'application/json', 'x-request-id': 'request-of-the-test' },
    });
    await guest.finalReply(named.body.reply.id);
    const all = [...apis, ...workers];
    expect(await Promise.all(all.map(({ program }) => program.stop()))).toEqual([0, 0, 0, 0]);

    expect(all.map(({ program }) => program.stderr)).toEqual(['', '', '', '']);

    // One line a request and one a reply attempt, and each leads to the other.
    const request = api.program.log.find(({ requestId }) => requestId === 'request-of-the-test');
    expect(request).toMatchObject({
      msg: 'request completed',
      req: { method: 'POST', url: `/v1/sessions/${session.id}/messages` },
      res: { status: 202 },
    });
    const attempts = workers
      .flatMap(({ program }) => program.log)
      .filter(({ event, sessionId }) => event === 'reply.attempt_ended' && ids.has(sessionId));
    expect(attempts.find(({ requestId }) => requestId === 'request-of-the-test')).toMatchObject({
      replyId: named.body.reply.id,
      sessionId: session.id,
      attempt: 1,
      outcome: 'completed',
    });
    expect(attempts.map(({ outcome }) => outcome)).toEqual([...posts, named].map(() => 'completed'));
    await waitFor('the connections to be gone', async () => (await connections()).length === 0);
  });
});
