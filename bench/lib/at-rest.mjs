// What each process takes of memory before anybody asks it anything, and how long it takes to be ready; beside a Nest hello world.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../test/support/services.mjs';
import { removeEmbeddedPostgres } from '../../dist/src/dev/embedded-postgres/embedded-postgres.js';
import { startProduct, untilReady } from '../product.mjs';
import { memoryKb } from './processor.mjs';
import { startProgram } from './program.mjs';
import { settingsOf } from './settings.mjs';

const REST_MS = 5_000;
const ROLES = /** @type {const} */ (['api', 'worker', 'all']);
const NAMES = { api: 'api', worker: 'worker', all: 'all in one' };

/** @param {import('./run.mjs').Run} run */
export async function atRest({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const hello = await startProgram('hello.mjs');
  onEnd(hello.stop);
  /** @type {Record<string, number[]>} */
  const starts = {};
  /** @type {Record<string, number[]>} */
  const memories = {};
  for (let round = 0; round < Math.ceil(rounds / 3); round++) {
    /** @type {Awaited<ReturnType<typeof startProduct>>[]} */
    const products = [];
    for (const role of ROLES) {
      const databaseUrl = await stores.copyDatabase();
      const env = settingsOf(backend);
      const product = await startProduct({ databaseUrl, modelUrl, roles: [role], isMigrated: true, env });
      onEnd(product.stop);
      products.push(product);
      (starts[role] ??= []).push(product.startMs[role] / 1_000);
    }
    await sleep(REST_MS);
    for (const [index, role] of ROLES.entries()) {
      (memories[role] ??= []).push(memoryKb(products[index].pids[role]) / 1_024);
    }
    for (const product of products) await product.stop();
  }
  const { name } = backend;
  const floor = memoryKb(hello.pid) / 1_024;
  for (const role of ROLES) {
    const memory = memories[role] ?? [];
    report.add(
      { name: `memory at rest, ${NAMES[role]}`, unit: 'MB', backend: name },
      memory,
      memory.map(() => floor),
    );
  }
  for (const role of ROLES)
    report.add({ name: `start to ready, ${NAMES[role]}`, unit: 's', backend: name }, starts[role] ?? []);
  if (name === 'postgres') {
    const [first, second] = await startEmbedded();
    report.add({ name: 'first start with the embedded database', unit: 's' }, [first]);
    report.add({ name: 'second start with the embedded database', unit: 's' }, [second]);
  }
}

/** @returns {Promise<[number, number]>} the first start as `npm start` does it, built, and the second, in seconds */
async function startEmbedded() {
  const cwd = await mkdtemp(join(tmpdir(), 'assistly-bench-'));
  const start = async () => {
    const port = await freePort();
    const begun = performance.now();
    const child = spawn(process.execPath, [resolve('dist/src/main.js')], {
      cwd,
      env: { PATH: process.env.PATH, PORT: String(port) },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    try {
      await untilReady(`http://127.0.0.1:${port}`);
      return (performance.now() - begun) / 1_000;
    } finally {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    }
  };
  try {
    return [await start(), await start()];
  } finally {
    await removeEmbeddedPostgres(join(cwd, '.assistly'));
    await rm(cwd, { recursive: true, force: true });
  }
}
