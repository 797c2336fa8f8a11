import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort, startRedis, startTemporaryPostgres } from '../../support/services.mjs';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Rejects when a fault takes longer than it may: a harness that hangs would hang the SIGCONT as well. */
export function within(ms, promise, what = 'a fault command') {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms} ms`)), ms);
  });
  promise.catch(() => undefined);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * Runs the built product from a copy, so that a build meanwhile changes nothing under it, and a mutant changes
 * nothing but the copy.
 *
 * @param {(directory: string) => Promise<void>} [change]
 */
export async function copyProduct(change) {
  const directory = await mkdtemp(join(tmpdir(), 'assistly-chaos-'));
  await cp(process.env.CHAOS_DIST ?? join(ROOT, 'dist'), join(directory, 'dist'), { recursive: true });
  await cp(join(ROOT, 'package.json'), join(directory, 'package.json'));
  await symlink(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  await change?.(directory);
  return directory;
}

/** One process of the product, which comes back on the same port. */
export class Process {
  /** @type {import('node:child_process').ChildProcess | null} */
  child = null;
  isPaused = false;
  /** The copy of the product that it runs from its next start on; null: the cluster's. @type {string | null} */
  directory = null;
  /** How it has ended, in order: what was done to it, and what it ended with. */
  ends = [];

  constructor(cluster, role, name, port, env) {
    this.cluster = cluster;
    this.role = role;
    this.name = name;
    this.port = port;
    this.env = env;
    this.url = `http://127.0.0.1:${port}`;
  }

  get isRunning() {
    return this.child !== null && this.child.exitCode === null && this.child.signalCode === null;
  }

  get pid() {
    return this.isRunning ? this.child.pid : null;
  }

  start() {
    if (this.isRunning) throw new Error(`${this.name} is running`);
    const log = openSync(join(this.cluster.logs, `${this.name}.log`), 'a');
    this.wanted = null;
    const child = spawn(process.execPath, ['dist/src/main.js', this.role], {
      cwd: this.directory ?? this.cluster.directory,
      env: { PATH: process.env.PATH, HOME: this.cluster.directory, ...this.env },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.child = child;
    this.isPaused = false;
    child.once('exit', (code, signal) => {
      this.ends.push({ at: Date.now(), wanted: this.wanted, code, signal });
      if (this.wanted === null) {
        this.cluster.crashes.push(`${this.name} ended by itself with ${code ?? signal}`);
      } else if (this.wanted === 'SIGTERM' && code !== 0 && signal === null) {
        // By the signal itself it ends where it had not begun to listen for signals yet.
        const seconds = ((Date.now() - this.wantedAt) / 1000).toFixed(1);
        this.cluster.crashes.push(`${this.name} ended with ${code ?? signal}, ${seconds} s after SIGTERM`);
      }
    });
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal, timeoutMs = 60_000) {
    if (!this.isRunning) return null;
    const exited = once(this.child, 'exit');
    this.wanted = signal;
    this.wantedAt = Date.now();
    this.child.kill(signal);
    if (this.isPaused && signal !== 'SIGKILL') this.continue();
    await within(timeoutMs, exited, `${this.name} on ${signal}`);
    return this.child.exitCode;
  }

  pause() {
    this.isPaused = true;
    this.child.kill('SIGSTOP');
  }

  continue() {
    this.isPaused = false;
    this.child.kill('SIGCONT');
  }

  async isReady() {
    try {
      const response = await fetch(`${this.url}/health/ready`, { signal: AbortSignal.timeout(2_000) });
      return response.status === 200;
    } catch {
      return false;
    }
  }

  /** Resident memory in MB and open files of the process. */
  footprint() {
    try {
      const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
      return {
        rssMb: Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024),
        files: readdirSync(`/proc/${this.pid}/fd`).length,
      };
    } catch {
      return { rssMb: 0, files: 0 };
    }
  }
}

/** The product's processes with a PostgreSQL and a Redis of their own, all of which may be broken. */
export class Cluster {
  /** @type {Process[]} */
  processes = [];
  /** What ended without having been told to, or badly. */
  crashes = [];

  /**
   * @param {object} options
   * @param {'postgres' | 'redis'} options.backend
   * @param {string} options.directory a copy of the product
   * @param {(worker: string) => string} options.providerUrl
   * @param {Record<string, string>} [options.env]
   */
  static async start({ backend, directory, providerUrl, apis = 2, workers = 3, env = {} }) {
    const cluster = new Cluster();
    cluster.backend = backend;
    cluster.directory = directory;
    cluster.logs = join(directory, 'logs');
    mkdirSync(cluster.logs, { recursive: true });
    cluster.postgres = await startTemporaryPostgres({
      fsync: 'on',
      synchronous_commit: 'on',
      full_page_writes: 'on',
    });
    cluster.databaseUrl = cluster.postgres.url;
    await run(process.execPath, ['dist/src/cli/migrate.js'], {
      cwd: directory,
      env: { PATH: process.env.PATH, DATABASE_URL: cluster.databaseUrl },
    });
    cluster.pool = new pg.Pool({
      connectionString: cluster.databaseUrl,
      max: 3,
      connectionTimeoutMillis: 3_000,
      query_timeout: 20_000,
      application_name: 'chaos',
    });
    cluster.pool.on('error', () => undefined);
    cluster.dataDirectory = (await cluster.query('show data_directory'))[0].data_directory;
    await cluster.query(AUDIT);
    if (backend === 'redis') {
      cluster.redisPort = await freePort();
      cluster.redis = await startRedis(cluster.redisPort);
    }
    const tokens = await import(pathToFileURL(join(directory, 'dist/src/auth/owner-tokens.js')).href);
    cluster.ownerToken = () => tokens.signLocalOwnerToken(join(directory, '.assistly'), 'user_chaos');
    cluster.ownerToken(); // makes the key before the processes would all at once
    const common = {
      NODE_ENV: 'test',
      LOG_LEVEL: 'info',
      LIMITS_ENABLED: 'false', // all of the load comes from one address
      ALLOWED_MODELS: '*',
      DATABASE_URL: cluster.databaseUrl,
      ...(backend === 'redis' && {
        REDIS_URL: `redis://127.0.0.1:${cluster.redisPort}`,
        REDIS_PREFIX: 'chaos',
      }),
      OPENAI_MODEL: 'chaos',
      LLM_FIRST_TOKEN_TIMEOUT_MS: '4000',
      LLM_IDLE_TIMEOUT_MS: '3000',
      DRAIN_TIMEOUT_MS: '3000',
      BULL_BOARD_USER: 'operator',
      BULL_BOARD_PASSWORD: 'chaos',
      ...env,
    };
    for (let i = 1; i <= apis; i++) {
      const port = await freePort();
      cluster.processes.push(new Process(cluster, 'api', `api${i}`, port, { ...common, PORT: String(port) }));
    }
    for (let i = 1; i <= workers; i++) {
      const port = await freePort();
      cluster.processes.push(
        new Process(cluster, 'worker', `worker${i}`, port, {
          ...common,
          WORKER_HEALTH_PORT: String(port),
          OPENAI_BASE_URL: providerUrl(`worker${i}`),
        }),
      );
    }
    for (const each of cluster.processes) each.start();
    await cluster.untilReady(cluster.processes, 60_000);
    return cluster;
  }

  get apis() {
    return this.processes.filter(({ role }) => role === 'api');
  }

  get workers() {
    return this.processes.filter(({ role }) => role === 'worker');
  }

  /** The rows of one statement, tried again while the database comes back. */
  async query(text, values = [], tries = 1) {
    for (let attempt = 1; ; attempt++) {
      try {
        return (await this.pool.query(text, values)).rows;
      } catch (error) {
        if (attempt >= tries) throw error;
        await sleep(500);
      }
    }
  }

  async untilReady(processes, timeoutMs) {
    const end = Date.now() + timeoutMs;
    for (const each of processes) {
      while (!(await each.isReady())) {
        if (Date.now() > end) throw new Error(`${each.name} is not ready; see ${this.logs}`);
        await sleep(100);
      }
    }
  }

  /** Runs one command in Redis, bounded. */
  async redisCli(...args) {
    const { stdout } = await run('redis-cli', ['-p', String(this.redisPort), ...args], { timeout: 3_000 });
    return stdout.trim();
  }

  /** Which process holds which connection to Redis. */
  async ownersOfConnections() {
    const { stdout } = await run('ss', ['-tnp', 'dst', `127.0.0.1:${this.redisPort}`], {
      timeout: 3_000,
    }).catch(() => ({ stdout: '' }));
    const names = new Map(this.processes.map(({ pid, name }) => [String(pid), name]));
    return stdout
      .split('\n')
      .map((line) => {
        const pid = /pid=(\d+)/.exec(line)?.[1];
        return pid === undefined ? '' : `${line.split(/\s+/)[3]} ${names.get(pid) ?? pid}`;
      })
      .filter(Boolean)
      .join('\n');
  }

  async restartRedis(downMs) {
    this.redis.process.kill('SIGKILL');
    await within(3_000, once(this.redis.process, 'exit'));
    await sleep(downMs);
    this.redis = await within(5_000, startRedis(this.redisPort));
  }

  async freezeRedis(ms) {
    const { process: server } = this.redis;
    server.kill('SIGSTOP');
    await sleep(ms).finally(() => server.kill('SIGCONT'));
  }

  postmasterPid() {
    return Number(readFileSync(join(this.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')[0]);
  }

  /**
   * Stops the server; its keeper (test support) starts it again, unless that is prevented for a while.
   *
   * @param {'fast' | 'immediate'} mode
   */
  async restartPostgres(mode, downMs) {
    const pid = this.postmasterPid();
    if (downMs > 0) chmodSync(this.dataDirectory, 0o777); // it refuses to start in a directory open to all
    try {
      process.kill(pid, mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
      await sleep(downMs);
    } finally {
      chmodSync(this.dataDirectory, 0o700);
    }
    const end = Date.now() + 15_000;
    for (;;) {
      try {
        await this.query('select 1');
        return;
      } catch (error) {
        if (Date.now() > end) throw error;
        await sleep(100);
      }
    }
  }

  /** Ends every process as a host does. @returns those that did not end with 0 */
  async stopProcesses(processes = this.processes) {
    const bad = [];
    await Promise.all(
      processes.map(async (each) => {
        try {
          const code = await each.end('SIGTERM', 45_000);
          if (code !== 0 && code !== null) bad.push(`${each.name} ended with ${code}`);
        } catch (error) {
          bad.push(String(error));
        }
      }),
    );
    return bad;
  }

  async close({ keep = false } = {}) {
    for (const each of this.processes) if (each.isRunning) await each.end('SIGKILL').catch(() => undefined);
    await this.pool.end().catch(() => undefined);
    await this.redis?.stop();
    await this.postgres.stop();
    if (!keep) await rm(this.directory, { recursive: true, force: true });
  }
}

/** A chatbot of the owner's, whose sessions the load opens. */
export async function createChatbot(cluster) {
  const response = await fetch(`${cluster.apis[0].url}/v1/chatbots`, {
    method: 'POST',
    headers: { authorization: `Bearer ${cluster.ownerToken()}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'Chaos', characteristics: ['We are open from 7 to 18.'] }),
  });
  if (response.status !== 201) throw new Error(`no chatbot: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Every change of a reply that means something, as the database saw it. */
const AUDIT = `
create table chaos_audit (
  n bigserial primary key, at timestamptz not null default clock_timestamp(), reply_id uuid not null, kind text not null,
  old_status text, new_status text, old_attempt int, new_attempt int, old_token uuid, new_token uuid,
  old_failures int, new_failures int, detail text);
create function chaos_audit() returns trigger language plpgsql as $$
declare
  kind text;
begin
  if old.finished_at is not null then
    if (to_jsonb(new) - '{announced_at,is_counted}'::text[]) is not distinct from (to_jsonb(old) - '{announced_at,is_counted}'::text[]) then return null; end if;
    kind := 'final_changed';
  elsif old.lease_token is not null and new.lease_token is not null and old.lease_token <> new.lease_token then
    kind := 'claimed_over_lease';
  elsif new.lease_token is not null and old.lease_token is null then
    kind := case when new.attempt = old.attempt + 1 then 'claim' else 'odd_claim' end;
  elsif new.finished_at is not null then
    kind := 'end';
  elsif old.lease_token is not null and new.lease_token is null then
    kind := case when old.lease_until < clock_timestamp() then 'recovered' else 'released' end;
  else
    return null;
  end if;
  insert into chaos_audit (reply_id, kind, old_status, new_status, old_attempt, new_attempt, old_token, new_token,
    old_failures, new_failures, detail)
  values (new.id, kind, old.status, new.status, old.attempt, new.attempt, old.lease_token, new.lease_token,
    old.failures, new.failures, new.error_code);
  return null;
end $$;
create trigger chaos_audit after update on replies for each row execute function chaos_audit();
create index on chaos_audit (reply_id)`;

/** Reads and rewrites one file of a copied product. */
export async function patchFile(directory, path, from, to) {
  const file = join(directory, path);
  const text = await readFile(file, 'utf8');
  const parts = text.split(from);
  if (parts.length !== 2) {
    throw new Error(`the patch of ${path} matches ${parts.length - 1} times instead of once: ${from}`);
  }
  await writeFile(file, parts.join(to));
}
