import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { removeEmbeddedPostgres } from '../../src/dev/embedded-postgres/embedded-postgres.js';
import { ApiClient } from '../support/api-client.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { createInstallation, type Installation, launch, Program, untilReady } from '../support/program.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { waitFor } from '../support/wait.js';

/** Which code a process of each role has loaded when it ends: what it has no use for costs memory and a start. */

jest.setTimeout(120_000); // a process takes two seconds to start, and many more on a busy machine

const HOOK = pathToFileURL(join(import.meta.dirname, '../support/loaded-modules.mjs')).href;

const TOKENIZER = /\/node_modules\/gpt-tokenizer\//;
const EMBEDDED_DATABASE = /\/dist\/src\/dev\/embedded-postgres\//;
const DEVELOPMENT = /\/dist\/src\/dev\//;
const ROUTES = /\/dist\/src\/api\.module\.js$/;
const APPLICATION = /\/dist\/src\/(create-app|app\.module)\.js$/;
const WORK = /\/dist\/src\/worker\/worker\.module\.js$/;

let cwd: string;
let programs: Program[];

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'assistly-modules-'));
  programs = [];
});
afterEach(async () => {
  for (const program of programs) program.signal('SIGKILL');
  await Promise.all(programs.map(({ exited }) => exited));
  rmSync(cwd, { recursive: true, force: true });
});

const recording = (name: string): Record<string, string> => ({
  NODE_OPTIONS: `--import=${HOOK}`,
  LOADED_MODULES: join(cwd, name),
});

/** The modules that a program had loaded when it ended, of the product and of what it depends on. */
const loaded = (name: string): string[] => readFileSync(join(cwd, name), 'utf8').split('\n');

describe('with DATABASE_URL', () => {
  let database: TestDatabase;
  let provider: RawProvider;
  let installation: Installation;

  beforeAll(async () => {
    provider = await startRawProvider();
    database = await createTestDatabase();
  });
  afterAll(async () => {
    await provider.close();
    await database.drop();
  });
  beforeEach(() => {
    installation = createInstallation(cwd, {
      databaseUrl: database.url,
      backend: 'postgres',
      modelUrl: provider.baseUrl,
    });
  });

  it('an api loads neither the tokenizer nor the embedded database, also when it cancels; a worker loads no routes', async () => {
    const keep = (program: Program) => programs.push(program);
    const [api, worker] = await Promise.all([
      launch(installation, 'api', recording('api'), keep),
      launch(installation, 'worker', recording('worker'), keep),
    ]);
    await Promise.all([untilReady(api), untilReady(worker)]);
    const owner = new ApiClient(api.url, installation.ownerToken);
    const chatbot = await owner.createChatbot({ name: 'Bakery', model: 'pace:200' });
    const { session, guest } = await owner.openSession(chatbot.id);
    const { reply, cursor } = await guest.postMessage(session.id, 'Count this?');
    const stream = guest.follow(session.id, { after: cursor });
    await stream.next('reply.delta', reply.id);

    const cancelled = await guest.post(`/v1/replies/${reply.id}/cancel`);

    await stream.close();
    expect(cancelled.body).toMatchObject({ status: 'cancelled', usage: { estimated: true } });
    expect(cancelled.body.usage.outputTokens).toBeGreaterThan(0);
    expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);
    for (const foreign of [TOKENIZER, DEVELOPMENT, WORK]) {
      expect(loaded('api').filter((url) => foreign.test(url))).toEqual([]);
    }
    for (const foreign of [DEVELOPMENT, ROUTES]) {
      expect(loaded('worker').filter((url) => foreign.test(url))).toEqual([]);
    }
    for (const name of ['api', 'worker'])
      expect(loaded(name).some((url) => APPLICATION.test(url))).toBe(true);
    // What they do load is seen: so would be what they must not.
    expect(loaded('api').some((url) => ROUTES.test(url))).toBe(true);
    expect(loaded('worker').some((url) => TOKENIZER.test(url))).toBe(true);
  });
});

describe('with settings that are wrong', () => {
  it('a process says so before it loads the application', async () => {
    const program = new Program('main.js', ['api'], { PORT: 'abc', ...recording('refused') }, cwd);
    programs.push(program);

    expect(await program.exited).toBe(1);

    expect(program.stderr).toContain('PORT must be a whole number');
    expect(loaded('refused').filter((url) => APPLICATION.test(url))).toEqual([]);
    expect(loaded('refused').some((url) => url.endsWith('/dist/src/main.js'))).toBe(true);
  });
});

describe('without DATABASE_URL', () => {
  it('all in one process loads all of them', async () => {
    const program = new Program('main.js', [], { PORT: '0', ...recording('all') }, cwd);
    programs.push(program);
    await waitFor('the welcome', () => program.stdout.includes('Stop with Ctrl-C.'), { timeoutMs: 90_000 });

    expect(await program.stop()).toBe(0);

    const missing = [TOKENIZER, EMBEDDED_DATABASE, ROUTES, WORK].filter(
      (own) => !loaded('all').some((url) => own.test(url)),
    );
    expect(missing).toEqual([]);
    await removeEmbeddedPostgres(join(cwd, '.assistly'));
  });
});
