// Posts that are accepted. No worker runs: as soon as a reply is stored, the database has it ended, so that each post makes a
// reply and a job of its own, as it does where people wait for an answer. Both sides have that.
import pg from 'pg';
import { startProduct } from '../product.mjs';
import { postMany } from './load.mjs';
import { measure, processorMs } from './processor.mjs';
import { startProgram } from './program.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';
import { CHATBOTS } from './stores.mjs';

const CONNECTIONS = 64;
const ROUND = { count: 1_500, maxMs: 2_000 };
/** Compiled by then. */
const WARM_UP = { count: 1_500, maxMs: 3_000 };

/** Has a database end each reply as it is stored. @param {string} url */
export async function endRepliesAtOnce(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`
    create function end_at_once() returns trigger language plpgsql as $$
    begin
      new.status = 'completed';
      new.finished_at = clock_timestamp();
      new.announced_at = new.finished_at;
      new.is_counted = true;
      return new;
    end $$`);
  await client.query(
    'create trigger end_at_once before insert on replies for each row execute function end_at_once()',
  );
  await client.end();
}

/** @param {import('./run.mjs').Run} run */
export async function posts({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const databases = [await stores.copyDatabase(), await stores.copyDatabase(), await stores.copyDatabase()];
  await Promise.all(databases.map(endRepliesAtOnce));
  const [ofProduct = '', ofFloor = '', ofUnlimited = ''] = databases;
  /** @param {string} databaseUrl @param {Record<string, string>} [more] */
  const startApi = async (databaseUrl, more) => {
    const env = settingsOf(backend, more);
    const api = await startProduct({ databaseUrl, modelUrl, roles: ['api'], isMigrated: true, env });
    onEnd(api.stop);
    return { url: api.url, pid: api.pids.api };
  };
  const floor = await startProgram('floor-api.mjs', { databaseUrl: ofFloor, redisUrl: backend.redisUrl });
  onEnd(floor.stop);
  const sides = {
    product: await startApi(ofProduct),
    unlimited: await startApi(ofUnlimited, { LIMITS_ENABLED: 'false' }),
    floor: { url: floor.started.url, pid: floor.pid },
  };
  const spread = stores.sessions.slice(0, CONNECTIONS);
  const ofOne = stores.sessions.filter((_, n) => n % CHATBOTS === 0).slice(0, CONNECTIONS);
  /** @param {'product' | 'unlimited' | 'floor'} side @param {import('./stores.mjs').Session[]} sessions @param {typeof ROUND} bounds */
  const post = async (side, sessions, bounds = ROUND) => {
    const { url, pid } = sides[side];
    const clocks = { ...stores.clocks, server: () => processorMs(pid) };
    const { result, wallMs, took } = await measure(clocks, () => postMany(url, sessions, bounds));
    return {
      perSecond: (result * 1_000) / wallMs,
      server: took.server / result,
      postgres: took.postgres / result,
      redis: took.redis / result,
    };
  };
  for (const side of /** @type {const} */ (['product', 'unlimited', 'floor']))
    await post(side, spread, WARM_UP);
  const all = await alternate(rounds, {
    product: () => post('product', spread),
    floor: () => post('floor', spread),
    unlimited: () => post('unlimited', spread),
    ofOne: () => post('product', ofOne),
  });
  const { name } = backend;
  /** @param {string} what @param {string} unit @param {'perSecond' | 'server' | 'postgres' | 'redis'} key */
  const add = (what, unit, key, of = all.product) =>
    report.add(
      { name: what, unit, backend: name },
      of.map((one) => one[key]),
      all.floor.map((one) => one[key]),
    );
  add(`posts a second, ${CONNECTIONS} connections`, '/s', 'perSecond');
  add('posts a second, all to one chatbot', '/s', 'perSecond', all.ofOne);
  add("api's processor a post", 'ms', 'server');
  add("PostgreSQL's processor a post", 'ms', 'postgres');
  if (name === 'redis') add("Redis' processor a post", 'ms', 'redis');
  for (const [what, key] of /** @type {const} */ ([
    ["api's", 'server'],
    ["PostgreSQL's", 'postgres'],
  ])) {
    report.add(
      { name: `${what} processor a post, of that without limits`, unit: 'ms', backend: name },
      all.product.map((one) => one[key]),
      all.unlimited.map((one) => one[key]),
    );
  }
}
