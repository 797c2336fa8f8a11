import { once } from 'node:events';
import { open, readFile, readlink, rm, stat, truncate } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { errorCode } from '../../runtime/error-code.js';
import type { Place } from './place.js';
import { isAlive, PROGRAM_TIMEOUT_MS, run } from './processes.js';

const STOP_TIMEOUT_S = 10;
const LOG_MAX_BYTES = 5_000_000;

export interface RunningServer {
  pid: number;
  port: number;
}

/**
 * Our server as `postmaster.pid` names it, if it is alive; it may not answer yet, or not any more. `pg_ctl status`
 * would neither give the port nor distinguish a server from another process that has its number.
 */
export async function findServer({ data }: Place): Promise<RunningServer | undefined> {
  const file = join(data, 'postmaster.pid');
  const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n');
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  if (!(pid > 0 && port > 0) || !isAlive(pid)) return undefined;
  if (process.platform === 'linux') {
    // After a reboot or in a new container the number may be another process's, or a zombie's; PostgreSQL, which
    // only looks whether it is taken, would refuse to start. A server always stands in its data directory.
    const directory = await readlink(`/proc/${pid}/cwd`).catch((error: unknown) =>
      errorCode(error) === 'EACCES' ? data : undefined,
    );
    if (directory !== data) {
      await rm(file, { force: true });
      return undefined;
    }
  }
  return { pid, port };
}

/**
 * Starts the server and waits until it answers. `pg_ctl` makes it a process of its own, with a log file of its own, so
 * that neither Ctrl-C in our terminal nor our death stops it.
 */
export async function startServer(
  place: Place,
  port: number,
  settings: Record<string, string>,
  signal: AbortSignal,
): Promise<void> {
  // Made by us, for the account must not be able to write beside it.
  const log = await open(place.log, 'a', 0o600);
  if (place.account !== undefined) await log.chown(place.account.uid, place.account.gid);
  await log.close();
  const asOptions = [
    `-p ${port}`,
    ...Object.entries(settings).map(([name, value]) => `-c ${quoted(name, value)}`),
  ];
  const server = inQuotes(join(place.installation, 'bin', 'postgres'));
  const timeoutS = String(PROGRAM_TIMEOUT_MS / 1000);
  await run(
    place,
    'pg_ctl',
    ['start', '--wait', '-t', timeoutS, '-l', inQuotes(place.log), '-p', server, '-o', asOptions.join(' ')],
    signal,
  );
}

const quoted = (name: string, value: string): string => `"${inQuotes(`${name}=${value}`)}"`;

/** `pg_ctl` has a shell run the server, and puts paths in double quotes as they are. */
const inQuotes = (text: string): string => text.replaceAll(/["$`\\]/g, '\\$&');

/** Shuts the server down, if there is one, waiting up to 10 s for what runs, then hard. */
export async function stopServer(place: Place): Promise<void> {
  for (const mode of ['fast', 'immediate']) {
    if ((await findServer(place)) === undefined) return;
    try {
      await run(place, 'pg_ctl', ['stop', '--mode', mode, '-t', String(STOP_TIMEOUT_S)]);
      return;
    } catch (error) {
      if (mode === 'immediate' && (await findServer(place)) !== undefined) throw error;
    }
  }
}

/** @returns a port that nobody listens on, for the moment */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export async function logSize({ log }: Place): Promise<number> {
  return stat(log).then(
    ({ size }) => size,
    () => 0,
  );
}

/** Empties a log that has grown. The server appends, so that it goes on at the beginning of it. */
export async function trimLog(place: Place): Promise<void> {
  if ((await logSize(place)) > LOG_MAX_BYTES) await truncate(place.log).catch(() => undefined);
}

/** The end of what the log has had added. */
export async function readLog({ log }: Place, from: number): Promise<string> {
  const added = (await readFile(log)).subarray(from);
  return added.subarray(-4_000).toString().trim();
}
