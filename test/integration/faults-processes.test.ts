import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { migrations } from '../../src/database/migrations/index.js';
import { ApiClient, type Json } from '../support/api-client.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { type Backend, BACKENDS } from '../support/conversations.js';
import {
  createInstallation,
  type Installation,
  launch as launchRole,
  openSession,
  Program,
  type RunningRole as Role,
  untilReady,
} from '../support/program.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/**
 * The built product as what it is run as, as in production, while the stores that it needs are not there yet, are
 * there no more, or have no tables.
 */

jest.setTimeout(120_000); // a process takes two seconds to start, and many more on a busy machine

describe.each(BACKENDS)('apis and workers on %s', (backend: Backend) => {
  let cwd: string;
  let programs: Program[];
  let database: TestDatabase;
  let provider: RawProvider;
  let installation: Installation;

  beforeAll(async () => {
    provider = await startRawProvider();
  });
  afterAll(() => provider.close());

  beforeEach(async () => {
    cwd = mkdtempSync(join(tmpdir(), 'assistly-processes-'));
    programs = [];
    database = await createTestDatabase();
    installation = createInstallation(cwd, {
      databaseUrl: database.url,
      backend,
      modelUrl: provider.baseUrl,
    });
  });
  afterEach(async () => {
    for (const program of programs) program.signal('SIGKILL');
    await Promise.all(programs.map(({ exited }) => exited));
    await database.drop();
    rmSync(cwd, { recursive: true, force: true });
  });

  const launch = (role: 'api' | 'worker', more: Record<string, string> = {}): Promise<Role> =>
    launchRole(installation, role, more, (program) => programs.push(program));

  async function launchReady(role: 'api' | 'worker', more: Record<string, string> = {}): Promise<Role> {
    const launched = await launch(role, more);
    await untilReady(launched);
    return launched;
  }

  function migrateOnce(url: string): Program {
    const program = new Program('cli/migrate.js', [], { DATABASE_URL: url }, cwd);
    programs.push(program);
    return program;
  }

  async function readiness({ url }: Role): Promise<{ status: number; detail: string }> {
    const { status, body } = await new ApiClient(url).get<{ detail?: string }>('/health/ready');
    return { status, detail: body.detail ?? '' };
  }

  async function isAnswered(api: Role, question: string): Promise<void> {
    const { id, guest } = await openSession(installation, api, 'ok');
    const { reply } = await guest.postMessage(id, question);
    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed' });
    expect((await guest.messages(id)).map(({ content }: Json) => content)).toEqual([
      question,
      answerTo(question),
    ]);
  }

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
        const told = await waitFor(
          'a line about the queue',
          () => role.program.log.find(({ event }) => event === 'queue.opening_delayed')?.msg,
        );
        expect(told).toContain('npm run db:migrate');
        for (const { name } of migrations) expect(told).toContain(name);
        expect(told).toMatch(/BullMQ \d+$/);
      }

      const runs = [1, 2, 3, 4, 5].map(() => migrateOnce(DATABASE_URL)); // at once
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

      expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);
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

    expect(await Promise.all(roles.map(({ program }) => program.stop()))).toEqual([0, 0]);
    await network.close();
  });
});
