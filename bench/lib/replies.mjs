// Replies by one worker whose model answers at once: the worker is held while their jobs are posted, and then let go.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { startProduct } from '../product.mjs';
import { postToEach } from './load.mjs';
import { measure, processorMs } from './processor.mjs';
import { startProgram } from './program.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';

const REPLIES = 200;
const CONCURRENCY = 50;
const MODEL = 'plain:20:0';
const TIMEOUT_MS = 60_000;

/** @param {import('./run.mjs').Run} run */
export async function replies({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const [ofProduct, ofFloor] = [await stores.copyDatabase(), await stores.copyDatabase()];
  const env = settingsOf(backend, { OPENAI_MODEL: MODEL, REPLY_CONCURRENCY: String(CONCURRENCY) });
  const product = await startProduct({ databaseUrl: ofProduct, modelUrl, isMigrated: true, env });
  onEnd(product.stop);
  const { redisUrl } = backend;
  const api = await startProgram('floor-api.mjs', { databaseUrl: ofFloor, redisUrl });
  onEnd(api.stop);
  const worker = await startProgram('floor-worker.mjs', {
    databaseUrl: ofFloor,
    redisUrl,
    modelUrl,
    model: MODEL,
    concurrency: CONCURRENCY,
  });
  onEnd(worker.stop);
  const sides = {
    product: { url: product.url, databaseUrl: ofProduct, worker: product.pids.worker },
    floor: { url: api.started.url, databaseUrl: ofFloor, worker: worker.pid },
  };
  const sessions = stores.sessions.slice(0, REPLIES);
  /** @param {'product' | 'floor'} side */
  const answerAll = async (side, count = REPLIES) => {
    const { url, databaseUrl, worker: pid } = sides[side];
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    try {
      process.kill(pid, 'SIGSTOP');
      await postToEach(url, sessions.slice(0, count)).catch((error) => {
        process.kill(pid, 'SIGCONT');
        throw error;
      });
      const { rows: begun } = await client.query('select clock_timestamp()::text as at');
      process.kill(pid, 'SIGCONT');
      const clocks = { ...stores.clocks, worker: () => processorMs(pid) };
      const { took } = await measure(clocks, () => untilAnswered(client, begun[0].at, count));
      const { rows } = await client.query(
        `select extract(epoch from max(finished_at) - $1)::float8 as seconds from replies`,
        [begun[0].at],
      );
      return {
        perSecond: count / rows[0].seconds,
        worker: took.worker / count,
        postgres: took.postgres / count,
        redis: took.redis / count,
      };
    } finally {
      await client.end();
    }
  };
  /** @param {boolean} isByPackage */
  const answerByFloor = async (isByPackage, count = REPLIES) => {
    await worker.ask({ isByPackage });
    return answerAll('floor', count);
  };
  await answerAll('product'); // compiled by then
  for (const isByPackage of [false, true]) await answerByFloor(isByPackage, REPLIES / 2);
  const all = await alternate(rounds, {
    product: () => answerAll('product'),
    bare: () => answerByFloor(false),
    byPackage: () => answerByFloor(true),
  });
  const { name } = backend;
  /** @param {string} what @param {string} unit @param {'perSecond' | 'worker' | 'postgres' | 'redis'} key */
  const add = (what, unit, key, floor = all.bare) =>
    report.add(
      { name: what, unit, backend: name },
      all.product.map((one) => one[key]),
      floor.map((one) => one[key]),
    );
  add('replies a second, floor with a bare call', '/s', 'perSecond');
  add('replies a second, floor with `openai`', '/s', 'perSecond', all.byPackage);
  add("worker's processor a reply", 'ms', 'worker');
  add("PostgreSQL's processor a reply", 'ms', 'postgres');
  if (name === 'redis') add("Redis' processor a reply", 'ms', 'redis');
}

/**
 * Waits for the ends of so many replies that were not final before.
 *
 * @param {import('pg').Client} client
 * @param {string} since
 * @param {number} count
 */
export async function untilAnswered(client, since, count, timeoutMs = TIMEOUT_MS) {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { rows } = await client.query(
      `select count(*)::int as done, count(*) filter (where status <> 'completed')::int as failed
       from replies where finished_at > $1`,
      [since],
    );
    if (rows[0].failed > 0) throw new Error(`${rows[0].failed} replies have failed`);
    if (rows[0].done >= count) return;
    if (performance.now() > deadline) throw new Error(`${count - rows[0].done} replies are not done`);
    await sleep(50);
  }
}
