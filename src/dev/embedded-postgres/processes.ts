import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { StartError } from '../../runtime/start-error.js';
import { errorCode } from '../../runtime/error-code.js';
import { INSTEAD, type Place } from './place.js';

/** Longest that one of PostgreSQL's programs may take, a start included. */
export const PROGRAM_TIMEOUT_MS = 60_000;

/**
 * Runs one of PostgreSQL's programs to its end: detached, so that Ctrl-C in our terminal does not end it half way; in a
 * directory that the account can enter; and without our environment, which holds secrets and PostgreSQL's variables.
 * Each finds the data directory in PGDATA.
 *
 * @throws {@link StartError} with the program's standard error where it fails
 */
export async function run(
  { home, data, installation, account }: Place,
  program: 'initdb' | 'pg_ctl',
  args: string[],
  signal?: AbortSignal,
): Promise<void> {
  const child = spawn(join(installation, 'bin', program), args, {
    cwd: home,
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC', PGDATA: data },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
    timeout: PROGRAM_TIMEOUT_MS,
    signal,
    ...account,
  });
  let output = '';
  child.stderr.on('data', (text) => (output += String(text)));
  const [code, killedBy] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  if (code === 0) return;
  throw new StartError(
    `The embedded PostgreSQL failed: ${program}: ${output.trim() || `ended with ${killedBy ?? code}`}\n${INSTEAD}`,
  );
}

/** Whether a process has this number; also one that is not ours. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}
