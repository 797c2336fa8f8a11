import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import {
  AlreadyRunningError,
  removeEmbeddedPostgres,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
} from '../../src/dev/embedded-postgres/embedded-postgres.js';
import { startTemporaryPostgres } from '../support/services.mjs';

let stateDir: string;
let servers: EmbeddedPostgres[];
let children: ChildProcess[];

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'assistly-embedded-'));
  servers = [];
  children = [];
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(servers.map((server) => server.stop()));
  await removeEmbeddedPostgres(stateDir);
  await rm(stateDir, { recursive: true });
});

async function start(log?: (line: string) => void): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ stateDir, log, settings: { fsync: 'off' } });
  servers.push(server);
  return server;
}

/** Another process that starts the server and tells what it does; Node.js runs the TypeScript as it is. */
function startInChild() {
  const module = new URL('../../src/dev/embedded-postgres/embedded-postgres.ts', import.meta.url).href;
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
  return {
    /** The rest of the first line that begins with one of the words. */
    async told(...words: string[]): Promise<string> {
      for (;;) {
        const line = lines.find((candidate) => words.includes(candidate.split(' ')[0] ?? ''));
        if (line !== undefined) return line.slice(line.indexOf(' ') + 1);
        await once(reader, 'line');
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
  it('gives the application a database that only this machine reaches', async () => {
    const { url } = await start();

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
    const url = new URL((await start()).url);
    url.password = 'wrong';

    await expect(query(url.href, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
  });

  it('keeps its data from one start to the next', async () => {
    const first = await start();
    await query(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();

    const second = await start();

    expect(await query(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
  });

  it('refuses a second start of the same clone, naming the process and the directory', async () => {
    const { url } = await start();
    const home = join(await dataDirectoryOf(url), '../..');

    const second = startEmbeddedPostgres({ stateDir });

    await expect(second).rejects.toBeInstanceOf(AlreadyRunningError);
    await expect(second).rejects.toThrow(`process ${process.pid} `);
    await expect(second).rejects.toThrow(home);
    expect(await query(url, 'SELECT 1 AS still')).toEqual([{ still: 1 }]);
  });

  it('lets one of two simultaneous first starts win', async () => {
    const [one, other] = [startInChild(), startInChild()];

    const outcomes = await Promise.all([one.told('url', 'error'), other.told('url', 'error')]);

    expect(outcomes.filter((outcome) => outcome === 'AlreadyRunningError')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome.startsWith('postgresql://'))).toHaveLength(1);
  });

  it('adopts the server that a killed process left running', async () => {
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
    const { url } = await start();
    const data = await dataDirectoryOf(url);
    const pid = await pidOf(data);
    process.kill(pid, 'SIGKILL');

    const deadline = Date.now() + 20_000;
    let answer: Record<string, unknown>[] = [];
    // The server answers a moment before its keeper has locked it again.
    while (answer[0]?.['locked'] !== true && Date.now() < deadline) {
      await sleep(50);
      answer = await query(
        url,
        `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted) AS locked`,
      ).catch(() => []);
    }

    expect(answer).toEqual([{ locked: true }]);
    await expect(startEmbeddedPostgres({ stateDir })).rejects.toBeInstanceOf(AlreadyRunningError);
    expect(await pidOf(data)).not.toBe(pid);
  });

  (process.platform === 'linux' ? it : it.skip)(
    'starts although the number of its last server belongs to another process now',
    async () => {
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
    const server = await start();
    const data = await dataDirectoryOf(server.url);
    await server.stop();
    await writeFile(join(data, 'PG_VERSION'), '17\n');

    await expect(start()).rejects.toThrow(/written by PostgreSQL 17, but PostgreSQL 18 is installed/);
  });

  it('tells the reason when the server does not come up', async () => {
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
});
