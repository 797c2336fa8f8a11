import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { createCluster } from '../../src/dev/embedded-postgres/cluster.js';
import {
  AlreadyRunningError,
  removeEmbeddedPostgres,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
} from '../../src/dev/embedded-postgres/embedded-postgres.js';
import { locate, type Place } from '../../src/dev/embedded-postgres/place.js';
import { findFreePort, findServer, startServer, stopServer } from '../../src/dev/embedded-postgres/server.js';
import { startTemporaryPostgres } from '../support/services.mjs';
import { waitFor } from '../support/wait.js';

const SETTINGS = { fsync: 'off' };

/** A stopped database that was started once: what a test begins with that is not about the first start. */
let template: { stateDir: string; place: Place };
let stateDir: string;
let servers: EmbeddedPostgres[];
let children: ChildProcess[];

beforeAll(async () => {
  const templateDir = await makeStateDir();
  const server = await startEmbeddedPostgres({ stateDir: templateDir, settings: SETTINGS });
  await server.stop();
  template = { stateDir: templateDir, place: await locate(templateDir) };
});
afterAll(() => removeState(template.stateDir));

beforeEach(async () => {
  stateDir = await makeStateDir();
  servers = [];
  children = [];
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(servers.map((server) => server.stop()));
  await removeState(stateDir);
});

const makeStateDir = (): Promise<string> => mkdtemp(join(tmpdir(), 'assistly-embedded-'));

async function removeState(directory: string): Promise<void> {
  await removeEmbeddedPostgres(directory);
  await rm(directory, { recursive: true });
}

/** Gives the test's state directory a database as an earlier start would have made it, in a tenth of the time. */
async function haveDatabase(): Promise<void> {
  const place = await locate(stateDir);
  execFileSync('cp', ['-a', template.place.cluster, place.cluster]);
  if (place.account === undefined) return;
  execFileSync('cp', ['-al', template.place.installation, place.installation]); // links: nobody writes there
}

async function start(log?: (line: string) => void): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ stateDir, log, settings: SETTINGS });
  servers.push(server);
  return server;
}

/** Another process that starts the server, of the built product, and tells what it does. */
function startInChild() {
  const module = new URL('../../dist/src/dev/embedded-postgres/embedded-postgres.js', import.meta.url).href;
  const script = `
    import { startEmbeddedPostgres } from '${module}';
    const log = (line) => console.log('log ' + line);
    try {
      const server = await startEmbeddedPostgres({ stateDir: process.argv[1], log, settings: { fsync: 'off' } });
      console.log('url ' + server.url);
    } catch (error) {
      console.log('error ' + error.name);
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script, stateDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines: string[] = [];
  const reader = createInterface(child.stdout).on('line', (line) => lines.push(line));
  const closed = once(child, 'close').then(([code]) => {
    throw new Error(`the process ended with ${code}, having said: ${lines.join(', ')}`);
  });
  closed.catch(() => undefined); // it may end when nobody waits
  return {
    /** The rest of the first line that begins with one of the words. */
    async told(...words: string[]): Promise<string> {
      for (;;) {
        const line = lines.find((candidate) => words.includes(candidate.split(' ')[0] ?? ''));
        if (line !== undefined) return line.slice(line.indexOf(' ') + 1);
        await Promise.race([once(reader, 'line'), closed]);
      }
    },
    async kill(): Promise<void> {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function dataDirectoryOf(url: string): Promise<string> {
  return String((await query(url, 'SHOW data_directory'))[0]?.['data_directory']);
}

async function pidOf(dataDirectory: string): Promise<number> {
  return Number((await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8')).split('\n')[0]);
}

describe('the embedded PostgreSQL', () => {
  describe('while it runs', () => {
    let url: string;
    beforeEach(async () => {
      await haveDatabase();
      ({ url } = await start());
    });

    it('gives the application a database that only this machine reaches', async () => {
      expect(
        await query(
          url,
          `SELECT current_database() AS database, getdatabaseencoding() AS encoding, lower('ÄÖ') AS lower,
                  current_setting('TimeZone') AS timezone, current_setting('listen_addresses') AS addresses,
                  current_setting('unix_socket_directories') AS sockets`,
        ),
      ).toEqual([
        {
          database: 'assistly',
          encoding: 'UTF8',
          lower: 'äö',
          timezone: 'UTC',
          addresses: '127.0.0.1',
          sockets: '',
        },
      ]);
    });

    it('refuses a wrong password', async () => {
      const wrong = new URL(url);
      wrong.password = 'wrong';

      await expect(query(wrong.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    });

    it('refuses a second start of the same clone, naming the process and the directory', async () => {
      const home = join(await dataDirectoryOf(url), '../..');

      const second = startEmbeddedPostgres({ stateDir });

      await expect(second).rejects.toBeInstanceOf(AlreadyRunningError);
      await expect(second).rejects.toThrow(`process ${process.pid} `);
      await expect(second).rejects.toThrow(home);
      expect(await query(url, 'SELECT 1 AS still')).toEqual([{ still: 1 }]);
    });
  });

  it('keeps its data from one start to the next', async () => {
    await haveDatabase();
    const first = await start();
    await query(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();

    const second = await start();

    expect(await query(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
  });

  it('lets one of two simultaneous first starts win', async () => {
    const [one, other] = [startInChild(), startInChild()];

    const outcomes = await Promise.all([one.told('url', 'error'), other.told('url', 'error')]);

    expect(outcomes.filter((outcome) => outcome === 'AlreadyRunningError')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome.startsWith('postgresql://'))).toHaveLength(1);
  });

  it('adopts the server that a killed process left running', async () => {
    await haveDatabase();
    const child = startInChild();
    const url = await child.told('url');
    await query(url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const data = await dataDirectoryOf(url);
    const pid = await pidOf(data);
    await child.kill();

    const adopted = await start();

    expect(adopted.url).toBe(url);
    expect(await pidOf(data)).toBe(pid);
    expect(await query(adopted.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    await adopted.stop();
    expect(existsSync(join(data, 'postmaster.pid'))).toBe(false);
  });

  it('begins anew when a process was killed in the middle of making the database', async () => {
    const child = startInChild();
    const home = /^Creating a database in (.*)$/.exec(await child.told('log'))?.[1] ?? '';
    await child.kill();
    expect((await readdir(home)).some((name) => name.startsWith('cluster.unfinished-'))).toBe(true);

    const { url } = await start();

    expect(await query(url, 'SELECT 1 AS works')).toEqual([{ works: 1 }]);
    expect((await readdir(home)).filter((name) => name.startsWith('cluster'))).toEqual(['cluster']);
  });

  it('comes back by itself, at the same address, when the server dies', async () => {
    await haveDatabase();
    const { url } = await start();
    const data = await dataDirectoryOf(url);
    const pid = await pidOf(data);
    process.kill(pid, 'SIGKILL');

    // The server answers a moment before its keeper has locked it again.
    const locked = `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted) AS locked`;
    await waitFor(
      'the server to be back, and locked',
      async () => (await query(url, locked))[0]?.['locked'] === true,
      {
        timeoutMs: 50_000,
      },
    );

    await expect(startEmbeddedPostgres({ stateDir })).rejects.toBeInstanceOf(AlreadyRunningError);
    expect(await pidOf(data)).not.toBe(pid);
  });

  (process.platform === 'linux' ? it : it.skip)(
    'starts although the number of its last server belongs to another process now',
    async () => {
      await haveDatabase();
      const first = await start();
      const data = await dataDirectoryOf(first.url);
      const lines = (await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n');
      await first.stop();
      const alive = spawn(process.execPath, ['--eval', 'setInterval(() => undefined, 1000)'], {
        cwd: tmpdir(),
        stdio: 'ignore',
      });
      children.push(alive);
      await writeFile(join(data, 'postmaster.pid'), [alive.pid, ...lines.slice(1)].join('\n'));

      const second = await start();

      expect(await query(second.url, 'SELECT 1 AS works')).toEqual([{ works: 1 }]);
      expect(alive.exitCode).toBeNull();
    },
  );

  it('names both versions when the data are of another major version', async () => {
    await haveDatabase();
    const server = await start();
    const data = await dataDirectoryOf(server.url);
    await server.stop();
    await writeFile(join(data, 'PG_VERSION'), '17\n');

    await expect(start()).rejects.toThrow(/written by PostgreSQL 17, but PostgreSQL 18 is installed/);
  });

  it('tells the reason when the server does not come up', async () => {
    await haveDatabase();
    const settings = { shared_buffers: 'many' };

    await expect(startEmbeddedPostgres({ stateDir, settings })).rejects.toThrow(
      /invalid value for parameter "shared_buffers": "many"[^]*DATABASE_URL/,
    );
  });

  it('leaves nothing behind when it was a temporary one', async () => {
    const server = await startTemporaryPostgres();
    const home = join(await dataDirectoryOf(server.url), '../..');
    expect(existsSync(home)).toBe(true);

    await server.stop();

    expect(existsSync(home)).toBe(false);
    expect(existsSync(server.stateDir)).toBe(false);
  });

  it('stands in a directory whose name means something to a shell', async () => {
    await chmod(stateDir, 0o711); // for the account
    const home = join(stateDir, 'a "b" $HOME `c` \\d');
    await mkdir(home, { mode: 0o711 });
    const cluster = join(home, 'cluster');
    const place = { ...template.place, home, cluster, data: join(cluster, 'data'), log: join(home, 'log') };
    await createCluster(place, false, () => undefined);
    const port = await findFreePort();

    await startServer(
      place,
      port,
      { ...SETTINGS, unix_socket_directories: '' },
      new AbortController().signal,
    );

    expect(await findServer(place)).toMatchObject({ port });
    expect(await readFile(place.log, 'utf8')).toContain('ready to accept connections');
    await stopServer(place);
    expect(await findServer(place)).toBeUndefined();
  });
});
