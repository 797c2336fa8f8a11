// What the product adds to the wait for the first token, and for the end of an answer, at a rate that leaves it idle between:
// from the post to the first text at a client that follows the session, less what a call of the model takes by itself.
import { setTimeout as sleep } from 'node:timers/promises';
import { startProduct } from '../product.mjs';
import { askBare } from './floor-calls.mjs';
import { followEach, isCompletion, isDelta, postAtRate } from './load.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';
import { agesOf } from './stamps.mjs';
import { median, percentile } from './statistics.mjs';

/** Twenty tokens in 0.3 s, the first after 30 ms. */
const MODEL = 'stamped:20:300:30';
const SESSIONS = 60;
const DIRECT_CALLS = 12;
const DIRECT_PAUSE_MS = 25;
const RATES = [
  { perSecond: 20, posts: 60 },
  { perSecond: 5, posts: 16 },
];
const TIMEOUT_MS = 20_000;

/** @param {import('./run.mjs').Run} run */
export async function firstToken({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const product = await startProduct({
    databaseUrl: await stores.copyDatabase(),
    modelUrl,
    isMigrated: true,
    env: settingsOf(backend, { OPENAI_MODEL: MODEL }),
  });
  onEnd(product.stop);
  const sessions = stores.sessions.slice(0, SESSIONS);
  /** When the post went out of each reply that is awaited, by session. @type {Map<string, number>} */
  const asked = new Map();
  /** @type {Set<string>} sessions of which no text has come yet */
  const silent = new Set();
  /** @type {number[]} */
  let firsts = [];
  /** @type {number[]} */
  let ends = [];
  const leave = await followEach(product.url, sessions, ({ id }, block) => {
    const at = performance.now();
    if (silent.has(id) && isDelta(block)) {
      silent.delete(id);
      firsts.push(at - Number(asked.get(id)));
    }
    if (isCompletion(block)) ends.push(Math.min(...agesOf(block)));
  });
  onEnd(async () => leave());
  /** @param {{ perSecond: number, posts: number }} rate */
  const measureAt = async ({ perSecond, posts }) => {
    [firsts, ends] = [[], []];
    const inTurn = Array.from({ length: posts }, (_, n) => sessions[n % SESSIONS]);
    await postAtRate(product.url, inTurn, perSecond, ({ id }) => {
      asked.set(id, performance.now());
      silent.add(id);
    });
    const deadline = performance.now() + TIMEOUT_MS;
    while (ends.length < posts) {
      if (performance.now() > deadline) throw new Error(`${posts - ends.length} replies did not end`);
      await sleep(20);
    }
    return { firsts, ends };
  };
  await measureAt({ perSecond: 40, posts: SESSIONS });
  const all = await alternate(rounds, {
    direct: measureDirect(modelUrl),
    often: () => measureAt(RATES[0]),
    seldom: () => measureAt(RATES[1]),
  });
  const { name } = backend;
  for (const [key, { perSecond }] of /** @type {const} */ ([
    ['often', RATES[0]],
    ['seldom', RATES[1]],
  ])) {
    for (const [what, part] of /** @type {const} */ ([
      ['p50', 0.5],
      ['p99', 0.99],
    ])) {
      report.add(
        { name: `added to the first token, ${perSecond} posts a second, ${what}`, unit: 'ms', backend: name },
        all[key].map((one, round) => percentile(one.firsts, part) - all.direct[round]),
      );
    }
    report.add(
      {
        name: `last token to \`reply.completed\`, ${perSecond} posts a second, p50`,
        unit: 'ms',
        backend: name,
      },
      all[key].map((one) => median(one.ends)),
    );
  }
}

/** @param {string} modelUrl @returns how long a call of the model takes to its first token, in ms */
const measureDirect = (modelUrl) => async () => {
  const times = [];
  for (let n = 0; n < DIRECT_CALLS; n++) {
    const begun = performance.now();
    let firstAt = 0;
    await askBare(modelUrl, 'stamped:1:0:30', [], () => {
      firstAt ||= performance.now();
    });
    times.push(firstAt - begun);
    await sleep(DIRECT_PAUSE_MS);
  }
  return median(times);
};
