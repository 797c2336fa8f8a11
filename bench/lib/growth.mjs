// How near to linear the product grows: three apis and four workers beside one of each. Replies take as long as their model does,
// and a worker makes few at a time, so that the machine is never what is short; posts do fill it, so that it is their processor
// time that counts.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { startProduct } from '../product.mjs';
import { askUntil, postMany } from './load.mjs';
import { endRepliesAtOnce } from './posts.mjs';
import { measure, processorMs } from './processor.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';

const MANY = { apis: 3, workers: 4 };
const ONE = { apis: 1, workers: 1 };
/** A second for each reply. */
const MODEL = 'plain:20:1000';
const CONCURRENCY = 4;
const CLIENTS_OF_WORKER = 8;
/** Until all slots are taken, and what is counted then. */
const RAMP_MS = 3_000;
const WINDOW_MS = 8_000;
const CONNECTIONS = 48;
const ROUND = { count: 450, maxMs: 2_000 };

/** @typedef {{ apis: number, workers: number }} Size */

/** @param {import('./run.mjs').Run} run */
export async function growth(run) {
  const { report, backend, rounds, onEnd } = run;
  /** @param {Size} size @param {boolean} hasWorkers */
  const installation = async ({ apis, workers }, hasWorkers) => {
    const databaseUrl = await run.stores.copyDatabase();
    if (!hasWorkers) await endRepliesAtOnce(databaseUrl);
    const env = settingsOf(backend, { OPENAI_MODEL: MODEL, REPLY_CONCURRENCY: String(CONCURRENCY) });
    /** @param {'api' | 'worker'} role */
    const start = async (role) => {
      const { modelUrl } = run;
      const product = await startProduct({ databaseUrl, modelUrl, roles: [role], isMigrated: true, env });
      onEnd(product.stop);
      return { url: product.url, pid: product.pids[role] };
    };
    const started = {
      databaseUrl,
      apis: [await start('api')],
      workers: hasWorkers ? [await start('worker')] : [],
    };
    while (started.apis.length < apis) started.apis.push(await start('api'));
    while (hasWorkers && started.workers.length < workers) started.workers.push(await start('worker'));
    return started;
  };
  /** @typedef {Awaited<ReturnType<typeof installation>>} Installation */
  /** Each api's share of the sessions. @param {Installation} of @param {number} count */
  const shares = ({ apis }, count) =>
    apis.map(({ url }, n) => ({
      url,
      sessions: run.stores.sessions.slice(0, count).filter((_, index) => index % apis.length === n),
    }));

  /** More clients than there are slots ask, wait for the answer, and ask again. @param {Installation} of */
  const reply = async (of) => {
    const clients = of.workers.length * CLIENTS_OF_WORKER;
    const end = performance.now() + RAMP_MS + WINDOW_MS;
    const asking = shares(of, clients).map(({ url, sessions }) => askUntil(url, sessions, end));
    await sleep(RAMP_MS);
    const client = new pg.Client({ connectionString: of.databaseUrl });
    await client.connect();
    try {
      const workers = () => of.workers.reduce((sum, { pid }) => sum + processorMs(pid), 0);
      const ended = async () => {
        const { rows } = await client.query(
          `select count(*)::int as ended from replies where status = 'completed'`,
        );
        return rows[0].ended;
      };
      const before = await ended();
      const { wallMs, took } = await measure({ workers }, () => sleep(WINDOW_MS));
      const count = (await ended()) - before;
      await Promise.all(asking);
      return { perSecond: (count * 1_000) / wallMs, workers: took.workers / count };
    } finally {
      await client.end();
    }
  };
  /** @param {Installation} of */
  const post = async (of, connections = CONNECTIONS) => {
    const apis = () => of.apis.reduce((sum, { pid }) => sum + processorMs(pid), 0);
    const { result, took } = await measure({ apis }, async () => {
      const posted = shares(of, connections).map(({ url, sessions }) =>
        postMany(url, sessions, { ...ROUND, count: ROUND.count / of.apis.length }),
      );
      return (await Promise.all(posted)).reduce((a, b) => a + b, 0);
    });
    return took.apis / result;
  };

  const replying = { one: await installation(ONE, true), many: await installation(MANY, true) };
  const replies = await alternate(rounds, {
    one: () => reply(replying.one),
    many: () => reply(replying.many),
  });
  const posting = { one: await installation(ONE, false), many: await installation(MANY, false) };
  // Compiled by then; the first ones are slow, and few at once.
  for (const connections of [6, 6, 24, 48]) {
    for (const of of Object.values(posting)) await post(of, connections);
  }
  const posts = await alternate(rounds, { one: () => post(posting.one), many: () => post(posting.many) });
  const { name } = backend;
  const sizes = `${MANY.apis} apis and ${MANY.workers} workers beside one of each`;
  report.add(
    { name: `replies a second, ${sizes}`, unit: '/s', backend: name },
    replies.many.map((one) => one.perSecond),
    replies.one.map((one) => one.perSecond),
  );
  report.add(
    { name: `workers' processor a reply, ${sizes}`, unit: 'ms', backend: name },
    replies.many.map((one) => one.workers),
    replies.one.map((one) => one.workers),
  );
  report.add(
    { name: `apis' processor a post, ${MANY.apis} apis beside one`, unit: 'ms', backend: name },
    posts.many,
    posts.one,
  );
}
