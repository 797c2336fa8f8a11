import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/**
 * Makes a clone ready to run: `node src/cli/setup.mjs install build`, before `npm start` and `npm test`.
 *
 * It runs where nothing is installed yet, on the machine's own Node.js (20 or newer): plain JavaScript, no
 * packages. Each step looks whether it is needed, so a second run does nothing, and writes nothing either: it
 * also serves a clone that is read-only. Everything after it runs on the Node.js that the project brings
 * along as the npm package `node`.
 */

const OLDEST_NODE = 20;
/** What the code needs, which may be newer than what the machine has. */
const NODE_OF_THE_PROJECT = 24;
const LOCK_TIMEOUT_MS = 10 * 60_000;

const root = fileURLToPath(new URL('../..', import.meta.url));
const inRoot = (...path) => join(root, ...path);

/** Ends the run with a message for a person. */
class SetupError extends Error {}

const steps = {
  install: { isDone: isInstalled, run: install },
  build: { isDone: isBuilt, run: build },
};

function isInstalled() {
  return findNode() !== undefined && isLockfileInstalled();
}

/**
 * Installed by us, with the stamp of this lock file; or by hand, with every package in the wanted version. Those
 * that only build and test may be missing where all is built, as on a production host after `npm prune`.
 */
function isLockfileInstalled() {
  const stamp = readIfThere(stampFile());
  if (stamp !== undefined) return stamp === lockfileHash();
  const installed = readIfThere(inRoot('node_modules', '.package-lock.json')); // npm writes it last
  if (installed === undefined) return false;
  const { packages } = JSON.parse(installed);
  const wanted = Object.entries(JSON.parse(readFileSync(inRoot('package-lock.json'), 'utf8')).packages);
  const isProductionEnough = process.env.NODE_ENV === 'production' && isBuilt();
  return wanted.every(([path, { version, optional, dev, devOptional }]) => {
    if (path === '') return true;
    if (packages[path] !== undefined) return packages[path].version === version;
    return optional || ((dev || devOptional) && isProductionEnough);
  });
}

function install() {
  console.log('Installing the dependencies (about a minute the first time) ...');
  // The tools that build and test are needed, whatever the environment says about production.
  const { NODE_ENV: _, ...env } = process.env;
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error', '--include=dev', '--include=optional'];
  // npm replaces node_modules, and with it the Node.js that may be running this: so on the one that runs npm.
  const npm = process.env.npm_execpath?.endsWith('npm-cli.js') ? process.env.npm_execpath : undefined;
  const onlyErrors = { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] };
  const { status, error } = npm
    ? spawnSync(process.env.npm_node_execpath ?? process.execPath, [npm, ...args], { ...onlyErrors, env })
    : spawnSync('npm', args, { ...onlyErrors, env, shell: process.platform === 'win32' });
  if (status !== 0) throw new SetupError(`npm ci failed${error ? `: ${error.message}` : '; see above.'}`);
  if (findNode() === undefined) {
    throw new SetupError(
      `The npm package "node", which brings Node.js ${NODE_OF_THE_PROJECT}, could not be installed on this machine (${process.platform}-${process.arch}). Install Node.js ${NODE_OF_THE_PROJECT} or newer and try again.`,
    );
  }
  writeFileSync(stampFile(), lockfileHash());
}

function isBuilt() {
  // By its content: npm writes the lock file anew when it only takes packages away.
  if (readIfThere(builtFile()) !== lockfileHash()) return false;
  const builtAt = statSync(builtFile()).mtimeMs;
  const sources = [
    'src',
    'mikro-orm.config.ts',
    'tsconfig.json',
    'nest-cli.json',
    'client/src',
    'client/package.json',
    'client/tsconfig.json',
    'web/src',
    'web/docs',
    'web/build.mjs',
    'web/index.html',
    'web/notice.html',
    'web/start.html',
    'web/package.json',
    'web/widget',
  ];
  return sources.every((path) => changedAt(inRoot(path)) <= builtAt);
}

async function build() {
  console.log('Building ...');
  // What was compiled from a file that is gone would live on: a migration of another branch would still run.
  for (const made of ['dist', 'client/dist', 'web/dist'])
    rmSync(inRoot(made), { recursive: true, force: true });
  const startedAt = new Date();
  const complaints = await Promise.all([
    compile(inRoot('node_modules', '@nestjs', 'cli', 'bin', 'nest.js'), 'build'),
    compile(inRoot('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'client'),
    compile(inRoot('web', 'build.mjs')),
    compile(inRoot('web', 'widget', 'build.mjs')),
  ]);
  const said = complaints.filter((complaint) => complaint !== null);
  if (said.length > 0) throw new SetupError(`The build failed.\n${said.join('\n')}`);
  writeFileSync(builtFile(), lockfileHash());
  utimesSync(builtFile(), startedAt, startedAt); // what was edited meanwhile counts as newer
}

/** Runs a compiler; what it says where it fails, else null. */
function compile(...command) {
  return new Promise((resolve) => {
    const options = { cwd: root, maxBuffer: Infinity };
    execFile(findNode(), command, options, (error, stdout, stderr) => {
      resolve(error && (stdout + stderr || error.message));
    });
  });
}

/** The Node.js that the project runs on: its own, or the machine's where that is new enough. */
function findNode() {
  const own = inRoot('node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (existsSync(own)) return own;
  return majorOfThisNode() >= NODE_OF_THE_PROJECT ? process.execPath : undefined;
}

function majorOfThisNode() {
  return Number(process.versions.node.split('.')[0]);
}

function stampFile() {
  return inRoot('node_modules', '.assistly-lock-hash');
}

function lockfileHash() {
  return createHash('sha256')
    .update(readFileSync(inRoot('package-lock.json')))
    .digest('hex');
}

function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

function builtFile() {
  return inRoot('dist', '.built');
}

/** When a file, or anything in a directory, last changed; a directory changes when a file in it comes or goes. */
function changedAt(path) {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  if (!stats.isDirectory()) return stats.mtimeMs;
  return Math.max(stats.mtimeMs, ...readdirSync(path).map((name) => changedAt(join(path, name))));
}

/** An image holds what was built and not what it was built from. */
function hasNothingToBuildFrom() {
  return existsSync(inRoot('dist')) && !existsSync(inRoot('tsconfig.json'));
}

/** Two of us in one clone, as `npm start` and `npm test` at once, work one after the other. */
async function alone(work) {
  const lock = inRoot('.assistly', 'setup.lock');
  const deadline = Date.now() + LOCK_TIMEOUT_MS;
  let waitedFor;
  mkdirSync(inRoot('.assistly'), { recursive: true });
  while (!tryLock(lock)) {
    const owner = ownerOf(lock);
    if (owner === undefined) continue; // just released
    if (!isAlive(owner)) {
      rmSync(lock, { force: true }); // of a setup that was killed
      continue;
    }
    if (Date.now() > deadline) {
      throw new SetupError(
        `Another setup of this clone (process ${owner}) does not end: stop it, or remove ${lock}.`,
      );
    }
    if (waitedFor !== owner) console.log(`Waiting for another setup of this clone (process ${owner}) ...`);
    waitedFor = owner;
    await sleep(200);
  }
  try {
    await work();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** The lock appears with its owner's number in it, in one step; so there is never one without. */
function tryLock(lock) {
  const own = `${lock}.${process.pid}`;
  writeFileSync(own, String(process.pid));
  try {
    linkSync(own, lock);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(own, { force: true });
  }
}

function ownerOf(lock) {
  try {
    return Number(readFileSync(lock, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

async function setUp(names) {
  if (majorOfThisNode() < OLDEST_NODE) {
    throw new SetupError(`Node.js ${OLDEST_NODE} or newer is needed; this is ${process.versions.node}.`);
  }
  if (hasNothingToBuildFrom() || names.every((name) => steps[name].isDone())) return;
  await alone(async () => {
    for (const name of names) {
      if (!steps[name].isDone()) await steps[name].run();
    }
  });
}

try {
  await setUp(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof SetupError) && error.syscall === undefined) throw error;
  console.error(error.message); // a system error names its file: no permission, disk full
  process.exitCode = 1;
}
