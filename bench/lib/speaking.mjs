// Many answers at once by one worker, each as slow as a model speaks, beside as many that are read by the `openai` package.
import pg from 'pg';
import { startProduct } from '../product.mjs';
import { followEach, isDelta, postToEach } from './load.mjs';
import { measure, processorMs } from './processor.mjs';
import { startProgram } from './program.mjs';
import { untilAnswered } from './replies.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';
import { agesOf } from './stamps.mjs';
import { percentile } from './statistics.mjs';

/** 300 tokens over ten seconds. */
const MODEL = 'stamped:300:10000';
const SOME = 100;
const MANY = 500;
const TIMEOUT_MS = 90_000;

/** @param {import('./run.mjs').Run} run */
export async function speaking({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const databaseUrl = await stores.copyDatabase();
  const product = await startProduct({
    databaseUrl,
    modelUrl,
    isMigrated: true,
    env: settingsOf(backend, { OPENAI_MODEL: MODEL, REPLY_CONCURRENCY: String(MANY) }),
  });
  onEnd(product.stop);
  const floor = await startProgram('floor-streams.mjs', { modelUrl });
  onEnd(floor.stop);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  onEnd(() => client.end());

  /** @param {number} count @param {boolean} isFollowed */
  const answer = async (count, isFollowed) => {
    const sessions = stores.sessions.slice(0, count);
    /** @type {number[]} */
    const ages = [];
    const leave = isFollowed
      ? await followEach(product.url, sessions, (_, block) => {
          if (isDelta(block)) ages.push(...agesOf(block));
        })
      : () => undefined;
    const { rows } = await client.query('select clock_timestamp()::text as at');
    const clocks = { ...stores.clocks, worker: () => processorMs(product.pids.worker) };
    const measured = await measure(clocks, async () => {
      await postToEach(product.url, sessions);
      await untilAnswered(client, rows[0].at, count, TIMEOUT_MS);
    });
    leave();
    return { ...measured, ages };
  };
  /** @param {number} count */
  const readDirectly = (count) =>
    measure({ worker: () => processorMs(floor.pid) }, () => floor.ask({ model: MODEL, count }));

  const some = await alternate(Math.ceil(rounds / 3), {
    product: () => answer(SOME, true),
    floor: () => readDirectly(SOME),
  });
  const many = await alternate(1, { product: () => answer(MANY, false), floor: () => readDirectly(MANY) });
  const { name } = backend;
  report.add(
    { name: `worker's processor with ${SOME} replies of 10 s`, unit: 's', backend: name },
    some.product.map(({ took }) => took.worker / 1_000),
    some.floor.map(({ took }) => took.worker / 1_000),
  );
  report.add(
    { name: `PostgreSQL's processor with ${SOME} replies of 10 s`, unit: 's', backend: name },
    some.product.map(({ took }) => took.postgres / 1_000),
  );
  for (const [what, part] of /** @type {const} */ ([
    ['p50', 0.5],
    ['p99', 0.99],
  ])) {
    report.add(
      { name: `token to client with ${SOME} replies of 10 s, ${what}`, unit: 'ms', backend: name },
      some.product.map(({ ages }) => percentile(ages, part)),
    );
  }
  report.add(
    { name: `${MANY} replies of 10 s at once, whole time`, unit: 's', backend: name },
    many.product.map(({ wallMs }) => wallMs / 1_000),
    many.floor.map(({ wallMs }) => wallMs / 1_000),
  );
  report.add(
    { name: `worker's processor with ${MANY} replies of 10 s`, unit: 's', backend: name },
    many.product.map(({ took }) => took.worker / 1_000),
    many.floor.map(({ took }) => took.worker / 1_000),
  );
}
