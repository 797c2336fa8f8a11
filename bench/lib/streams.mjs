// Open event streams: what one takes, how fast they open, what they take while nothing happens, and how long a token is under
// way among them; beside a server that does nothing else.
import { setTimeout as sleep } from 'node:timers/promises';
import { startProduct } from '../product.mjs';
import { followEach, isDelta, postToEach } from './load.mjs';
import { measure, memoryKb, processorMs } from './processor.mjs';
import { startProgram } from './program.mjs';
import { settingsOf } from './settings.mjs';
import { agesOf } from './stamps.mjs';
import { percentile } from './statistics.mjs';

const SPEAKERS = 200;
const TOKENS = 150;
/** 30 tokens a second, for five seconds. */
const MODEL = `stamped:${TOKENS}:5000`;
const IDLE_MS = 10_000;
const SETTLE_MS = 1_500;
const TIMEOUT_MS = 60_000;

/** @param {import('./run.mjs').Run} run */
export async function openStreams({ stores, backend, report, streams, modelUrl, onEnd }) {
  const product = await startProduct({
    databaseUrl: await stores.copyDatabase(),
    modelUrl,
    isMigrated: true,
    env: settingsOf(backend, { OPENAI_MODEL: MODEL, REPLY_CONCURRENCY: String(SPEAKERS * 2) }),
  });
  onEnd(product.stop);
  const server = await startProgram('floor-sse.mjs', { modelUrl, model: MODEL });
  onEnd(server.stop);
  const sessions = stores.sessions.slice(0, streams);

  /** @param {string} url @param {number} pid */
  const open = async (url, pid) => {
    /** @type {number[]} */
    const ages = [];
    const before = memoryKb(pid);
    const opened = await measure(stores.clocks, () =>
      followEach(url, sessions, (_, block) => {
        if (isDelta(block)) ages.push(...agesOf(block));
      }),
    );
    await sleep(SETTLE_MS);
    const memory = memoryKb(pid) - before;
    const clocks = { ...stores.clocks, server: () => processorMs(pid) };
    const idle = await measure(clocks, () => sleep(IDLE_MS));
    await postToEach(url, sessions.slice(0, SPEAKERS));
    const deadline = performance.now() + TIMEOUT_MS;
    while (ages.length < SPEAKERS * TOKENS && performance.now() < deadline) await sleep(100);
    opened.result();
    return {
      kb: memory / streams,
      perSecond: (streams * 1_000) / opened.wallMs,
      idle: idle.took.server / IDLE_MS,
      idlePostgres: idle.took.postgres / IDLE_MS,
      ages,
      missing: SPEAKERS * TOKENS - ages.length,
    };
  };
  const floor = await open(server.started.url, server.pid);
  const ours = await open(product.url, product.pids.api);
  const backendName = backend.name;
  /** @param {string} what @param {string} unit @param {number} value @param {number} [of] */
  const add = (what, unit, value, of) =>
    report.add({ name: what, unit, backend: backendName }, [value], of === undefined ? undefined : [of]);
  add(`memory of an open stream, of ${streams.toLocaleString('en')}`, 'kB', ours.kb, floor.kb);
  add('streams opened a second', '/s', ours.perSecond, floor.perSecond);
  add("api's processor while they are idle", '% of a core', 100 * ours.idle);
  add("PostgreSQL's processor while they are idle", '% of a core', 100 * ours.idlePostgres);
  for (const [what, part] of /** @type {const} */ ([
    ['p50', 0.5],
    ['p99', 0.99],
  ])) {
    add(
      `token to client, ${SPEAKERS} speaking among them, ${what}`,
      'ms',
      percentile(ours.ages, part),
      percentile(floor.ages, part),
    );
  }
  if (ours.missing > 0) console.log(`  ${ours.missing} tokens did not come as text of their own`);
}
