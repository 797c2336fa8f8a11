import { randomBytes } from 'node:crypto';
import { constants, existsSync } from 'node:fs';
import { chown, cp, lchown, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { StartError } from '../../runtime/start-error.js';
import { INSTEAD, type Place } from './place.js';
import { isAlive, run } from './processes.js';

/** Name of both the role and the database. */
export const NAME = 'assistly';

/** Makes the installation that another account can reach: a copy, 60 MB, made in a fraction of a second. */
export async function createInstallation({ installation, packaged, account }: Place): Promise<void> {
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

/** Removes copies of other versions; only while no server runs, which may have been started from one of them. */
export async function removeOldInstallations({ home, installation, account }: Place): Promise<void> {
  if (account === undefined) return;
  for (const name of await readdir(home)) {
    const isOld =
      name.startsWith('postgresql-') && !name.includes('unfinished') && name !== basename(installation);
    if (isOld) await rm(join(home, name), { recursive: true, force: true });
  }
}

/**
 * Makes the cluster where there is none yet.
 *
 * @returns the password
 * @throws {@link StartError} where the data are of another major version
 */
export async function createCluster(
  place: Place,
  isDurable: boolean,
  log: (line: string) => void,
): Promise<string> {
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
      ...(isDurable ? [] : ['--no-sync']),
    ]);
  });
  const made = (await readFile(join(place.data, 'PG_VERSION'), 'utf8')).trim();
  const installed = place.version.split('.')[0];
  if (made !== installed) {
    throw new StartError(
      `The data in ${place.home} were written by PostgreSQL ${made}, but PostgreSQL ${installed} is installed, which cannot read them. Install the earlier version to dump them, or remove ${place.home} to begin anew. ${INSTEAD}`,
    );
  }
  return readPassword(place);
}

export const readPassword = async ({ cluster }: Place): Promise<string> =>
  (await readFile(join(cluster, 'password'), 'utf8')).trim();

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
