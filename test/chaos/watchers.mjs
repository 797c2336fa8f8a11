import { Agent, get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createParser } from 'eventsource-parser';
import { within } from './lib/cluster.mjs';
import { Heaps } from './lib/heaps.mjs';
import { backendsOf, playScene, row } from './lib/stage.mjs';

/**
 * Thousands of watchers at the same time: what each of them costs an api, whether each is told of an end once, and
 * whether anything is left when all of them go at once.
 *
 *   node test/chaos/watchers.mjs --watchers 5000 --backend both
 */

const { values: options } = parseArgs({
  options: {
    watchers: { type: 'string', default: '5000' },
    backend: { type: 'string', default: 'both' },
    keep: { type: 'boolean', default: false },
  },
});
const WATCHERS = Number(options.watchers);
const PER_SESSION = 50;
/** So many sessions get a message while all are watched. */
const TALKING = 20;
const OPENING_AT_ONCE = 100;
const MAX_BYTES_EACH = 60_000;
const MAX_BYTES_KEPT_EACH = 1_000;
/** How soon nothing may be left of them. */
const RELEASE_MS = 10_000;
const TIMEOUT_MS = 60_000;

/** Looks until it holds. @returns how long it took in milliseconds, or null: it does not */
async function until(condition, boundMs) {
  const startedAt = Date.now();
  while (!(await condition())) {
    if (Date.now() - startedAt > boundMs) return null;
    await sleep(50);
  }
  return Date.now() - startedAt;
}

/** Follows a session, and counts the ends it is told of. */
class Watcher {
  ends = 0;
  #parser = createParser({
    onEvent: ({ event }) => {
      if (event === 'reply.completed') this.ends++;
    },
  });

  /** Resolves when the stream has begun. */
  open(url, session, agent) {
    return new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${session.token}` };
      this.request = get(`${url}/v1/sessions/${session.id}/events`, { agent, headers }, (response) => {
        if (response.statusCode !== 200) reject(new Error(`a watcher was answered ${response.statusCode}`));
        response.setEncoding('utf8').once('data', resolve);
        response.on('data', (text) => this.#parser.feed(text));
        response.on('error', () => undefined); // it goes
      });
      this.request.on('error', reject);
    });
  }
}

/** @param {import('./lib/stage.mjs').Stage} stage */
async function watch({ cluster, findings, makeLoad }, heaps) {
  const { apis } = cluster;
  const agent = new Agent({ maxSockets: Infinity });
  const load = makeLoad({ guests: 0, cancelShare: 0, readShare: 0 });
  const openSession = async () => {
    const response = await fetch(`${apis[0].url}/v1/chatbots/${load.chatbotId}/sessions`, {
      method: 'POST',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const { session, token } = await response.json();
    return { id: session.id, token };
  };
  const openAll = async (count, sessions) => {
    const watchers = Array.from({ length: count }, () => new Watcher());
    let next = 0;
    const lane = async () => {
      while (next < count) {
        const i = next++;
        const opened = watchers[i].open(apis[i % apis.length].url, sessions[i % sessions.length], agent);
        await within(TIMEOUT_MS, opened, 'the beginning of a stream');
      }
    };
    await Promise.all(Array.from({ length: OPENING_AT_ONCE }, lane));
    return watchers;
  };
  const closeAll = (watchers) => {
    for (const { request } of watchers) request.destroy();
  };
  const held = async () => ({
    heap: (await Promise.all(apis.map((each) => heaps.bytesOf(each)))).reduce((sum, bytes) => sum + bytes),
    rssMb: apis.reduce((sum, each) => sum + each.footprint().rssMb, 0),
    files: apis.reduce((sum, each) => sum + each.footprint().files, 0),
  });
  const channels = async () =>
    cluster.backend === 'redis'
      ? (await cluster.redisCli('PUBSUB', 'CHANNELS', '*'))
          .split('\n')
          .filter((name) => name !== '' && !name.endsWith(':proof')).length
      : 0;

  const sessions = [];
  for (let i = 0; i < Math.ceil(WATCHERS / PER_SESSION); i++) sessions.push(await openSession());
  closeAll(await openAll(Math.min(500, WATCHERS), sessions)); // what is made once
  await sleep(3_000);
  const before = await held();

  const openingAt = Date.now();
  const watchers = await openAll(WATCHERS, sessions);
  row('watchers', `${WATCHERS} of ${sessions.length} sessions, at ${apis.length} apis`);
  row('all of them opened within', `${Date.now() - openingAt} ms`);
  const during = await held();
  const bytesEach = Math.round((during.heap - before.heap) / WATCHERS);
  row('memory each, without garbage', `${bytesEach} bytes`);
  row('resident memory each', `${Math.round(((during.rssMb - before.rssMb) * 1024) / WATCHERS)} kB`);
  if (bytesEach > MAX_BYTES_EACH) findings.add('a watcher costs too much', `${bytesEach} bytes`);

  const postingAt = Date.now();
  const talking = new Set(sessions.slice(0, TALKING));
  await Promise.all(
    [...talking].map(async (session, i) => {
      const response = await fetch(`${apis[i % apis.length].url}/v1/sessions/${session.id}/messages`, {
        method: 'POST',
        signal: AbortSignal.timeout(TIMEOUT_MS),
        headers: { authorization: `Bearer ${session.token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ content: `[w${i}] What about this?` }),
      });
      if (response.status !== 202) findings.add('a message was not taken', String(response.status));
    }),
  );
  const expected = watchers.map((_, i) => (talking.has(sessions[i % sessions.length]) ? 1 : 0));
  const isTold = () => watchers.every(({ ends }, i) => ends >= expected[i]);
  if ((await until(isTold, TIMEOUT_MS)) === null) findings.add('a watcher was not told', 'of the end');
  row('everybody was told within', `${Date.now() - postingAt} ms`);
  const [{ ms }] = await cluster.query(
    `select (max(extract(epoch from finished_at - created_at)) * 1000)::int as ms from replies`,
  );
  row('the slowest reply itself took', `${ms} ms`);
  await sleep(1_000);
  const wrong = watchers.filter(({ ends }, i) => ends !== expected[i]);
  if (wrong.length > 0) findings.add('a watcher was told wrongly', `${wrong.length}`);

  closeAll(watchers);
  const isReleased = async () =>
    apis.reduce((sum, each) => sum + each.footprint().files, 0) <= before.files + 20 &&
    (await channels()) === 0;
  const releasedMs = await until(isReleased, RELEASE_MS);
  if (releasedMs === null) findings.add('connections or subscriptions are left', `after ${RELEASE_MS} ms`);
  row('released within', `${releasedMs} ms`);
  // What finalizers let go takes more than one collection.
  let keptBytes = Infinity;
  await until(async () => {
    keptBytes = (await held()).heap - before.heap;
    return keptBytes <= WATCHERS * MAX_BYTES_KEPT_EACH;
  }, RELEASE_MS);
  row('memory kept of each', `${Math.round(keptBytes / WATCHERS)} bytes`);
  if (keptBytes > WATCHERS * MAX_BYTES_KEPT_EACH) findings.add('memory is kept', `${keptBytes} bytes`);
  agent.destroy();
}

const title = 'thousands of watchers at the same time';
let isGood = true;
for (const backend of backendsOf(options.backend)) {
  const heaps = new Heaps();
  const setting = { backend, title, keep: options.keep, env: { LOG_LEVEL: 'warn', ...heaps.env } };
  isGood = (await playScene(setting, (stage) => watch(stage, heaps))) && isGood;
  heaps.close();
}
process.exit(isGood ? 0 : 1);
