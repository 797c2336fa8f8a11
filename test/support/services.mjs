// Plain JavaScript, since Jest loads its global setup without the transform that the tests have; so it uses the
// built product, which `pretest` brings up to date.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, lstat, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import {
  removeEmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../dist/src/dev/embedded-postgres/embedded-postgres.js';
import { isAlive } from '../../dist/src/dev/embedded-postgres/processes.js';

const PREFIX = 'assistly-test-';
/** Debian's user and group of this name. */
const NOBODY = 65_534;

/** Durability is what a throwaway server can do without; the rest is as in `npm start`. */
const SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '300' };

/**
 * A PostgreSQL for tests, in a directory of its own, which `stop()` removes with everything in it.
 *
 * @param {Record<string, string>} settings over those of a throwaway server
 * @returns {Promise<{ url: string, stateDir: string, stop: () => Promise<void> }>}
 */
export async function startTemporaryPostgres(settings = {}) {
  await removeLeftovers();
  const stateDir = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
  const server = await startEmbeddedPostgres({ stateDir, settings: { ...SETTINGS, ...settings } });
  return {
    url: server.url,
    stateDir,
    stop: async () => {
      await server.stop();
      await remove(stateDir);
    },
  };
}

/** @param {string} stateDir */
async function remove(stateDir) {
  await removeEmbeddedPostgres(stateDir);
  await rm(stateDir, { recursive: true, force: true, maxRetries: 5 });
}

/** Servers outlive a test process that is killed; the next one clears them away. */
async function removeLeftovers() {
  for (const name of await readdir(tmpdir())) {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    const stateDir = join(tmpdir(), name);
    const isOurs = (await lstat(stateDir)).uid === (process.getuid?.() ?? 0);
    if (isOurs) await remove(stateDir).catch(() => undefined); // two may clear the same one away
  }
}

/**
 * A redis-server on a free port that keeps nothing.
 *
 * @param {number} [port]
 * @param {string[]} [options] over those of a throwaway server
 */
export async function startRedis(port, options = []) {
  const chosen = port ?? (await freePort());
  const child = spawn(
    'redis-server',
    // As a primary or a replica it copies at once, and without a file.
    [
      ['--port', String(chosen), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
      ['--repl-diskless-sync-delay', '0', '--repl-diskless-load', 'swapdb'],
      options,
    ].flat(),
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`redis-server ended with ${code}`)));
    child.stdout.on('data', (data) => {
      if (String(data).includes('Ready to accept connections')) resolve(undefined);
    });
  });
  child.removeAllListeners('exit');
  return {
    url: `redis://127.0.0.1:${chosen}`,
    process: child,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

/**
 * A Redis Cluster of primaries on free ports, the slots shared among them evenly, each with as many replicas as wanted.
 *
 * @param {{ primaries?: number, replicas?: number, options?: string[] }} [shape] options: of each server
 * @returns {Promise<{ url: string, nodes: string, servers: Awaited<ReturnType<typeof startRedis>>[], stop: () => Promise<void> }>}
 *   nodes: as REDIS_CLUSTER_NODES takes them; servers: the primaries first
 */
export async function startRedisCluster({ primaries = 3, replicas = 0, options = [] } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'assistly-cluster-'));
  const servers = await Promise.all(
    Array.from({ length: primaries * (1 + replicas) }, async (_, index) =>
      startRedis(
        undefined,
        [
          ['--cluster-enabled', 'yes', '--cluster-config-file', `nodes-${index}.conf`, '--dir', directory],
          ['--cluster-port', String(await freePort()), '--cluster-node-timeout', '2000'],
          ['--cluster-replica-validity-factor', '0'],
          options,
        ].flat(),
      ),
    ),
  );
  const clients = servers.map(({ url }) => new Redis(url));
  const [first] = clients;
  const addresses = await Promise.all(
    clients.map(async (client, index) => {
      const [, busPort] = await client.config('GET', 'cluster-port');
      return { id: await client.cluster('MYID'), port: new URL(servers[index].url).port, busPort };
    }),
  );
  for (const { port, busPort } of addresses.slice(1)) {
    await first.call('CLUSTER', 'MEET', '127.0.0.1', port, busPort);
  }
  await Promise.all(
    clients.slice(0, primaries).map((client, index) => {
      const bounds = [index, index + 1].map((part) => Math.round((16_384 * part) / primaries));
      return client.call('CLUSTER', 'ADDSLOTSRANGE', String(bounds[0]), String(bounds[1] - 1));
    }),
  );
  await untilAll(clients, async (client) =>
    (await client.cluster('INFO')).includes(`cluster_known_nodes:${clients.length}`),
  );
  await Promise.all(
    clients
      .slice(primaries)
      .map((client, index) => client.call('CLUSTER', 'REPLICATE', addresses[index % primaries].id)),
  );
  await untilAll(clients, async (client) => {
    const info = await client.cluster('INFO');
    const replication = await client.info('replication');
    return (
      info.includes('cluster_state:ok') &&
      info.includes(`cluster_size:${primaries}`) &&
      (replication.includes('role:master') || replication.includes('master_link_status:up'))
    );
  });
  for (const client of clients) client.disconnect();
  return {
    url: servers[0].url,
    nodes: addresses.map(({ port }) => `127.0.0.1:${port}`).join(','),
    servers,
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/**
 * @param {Redis[]} clients
 * @param {(client: Redis) => Promise<boolean>} condition
 */
async function untilAll(clients, condition) {
  const deadline = performance.now() + 30_000;
  for (const client of clients) {
    while (!(await condition(client))) {
      if (performance.now() > deadline) throw new Error('the Redis Cluster did not come up');
      await sleep(50);
    }
  }
}

/**
 * A PgBouncer in front of all databases of a server.
 *
 * @param {string} target URL of the server
 * @param {'transaction' | 'session'} [mode]
 * @returns {Promise<{ port: number, through: (url: string) => string, stop: () => Promise<void> }>}
 */
export async function startPgBouncer(target, mode = 'transaction') {
  const { hostname, port, username, password } = new URL(target);
  const own = await freePort();
  const directory = await mkdtemp(join(tmpdir(), 'assistly-pgbouncer-'));
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: own,
    pool_mode: mode,
    auth_type: 'any',
    max_client_conn: 1000,
    default_pool_size: 20,
    unix_socket_dir: '',
  };
  const server = `host=${hostname} port=${port} user=${username} password=${decodeURIComponent(password)}`;
  const ini = `[databases]\n* = ${server}\n[pgbouncer]\n${Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}`)
    .join('\n')}\n`;
  const file = join(directory, 'pgbouncer.ini');
  await writeFile(file, ini);
  await chmod(directory, 0o755); // it refuses to run as root, so another user reads it
  const isRoot = process.getuid?.() === 0;
  const child = spawn('pgbouncer', [file], {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(isRoot && { uid: NOBODY, gid: NOBODY }),
  });
  let log = '';
  await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`pgbouncer ended with ${code}: ${log}`)));
    child.stderr.on('data', (data) => {
      log += String(data);
      if (log.includes('process up')) resolve(undefined);
    });
  });
  child.removeAllListeners('exit');
  return {
    port: own,
    through: (url) => {
      const pooled = new URL(url);
      pooled.hostname = '127.0.0.1';
      pooled.port = String(own);
      return pooled.href;
    },
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Below those that systems give to whoever asks for any, a connection that goes out above all: one would take it meanwhile. */
const PORTS = { least: 20_000, most: 32_000 };
/** Of this process: one that was given is about to be used. */
const givenPorts = new Set();

/** @returns {Promise<number>} a port that nobody listens on */
export async function freePort() {
  for (let tries = 0; tries < 100; tries++) {
    const port = PORTS.least + Math.floor(Math.random() * (PORTS.most - PORTS.least));
    if (givenPorts.has(port)) continue;
    const server = createServer();
    server.listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch {
      continue; // somebody listens there
    }
    server.close();
    await once(server, 'close');
    givenPorts.add(port);
    return port;
  }
  throw new Error('no port is free');
}
