import { check, drain, Findings, untilSeen } from './checks.mjs';
import { Cluster, copyProduct, createChatbot } from './cluster.mjs';
import { Load } from './load.mjs';
import { NO_FAULTS, Provider } from './provider.mjs';
import { Random } from './random.mjs';

/** REPLY_ATTEMPTS where nothing else is set. */
const DEFAULT_ATTEMPTS = 4;
const DRAIN_MS = 60_000;

/**
 * What a scene is played on.
 *
 * @typedef {object} Stage
 * @property {Cluster} cluster
 * @property {Provider} provider without faults, until told otherwise
 * @property {Random} random
 * @property {Findings} findings what the scene finds wrong
 * @property {(options: object) => Load} makeLoad guests of the cluster's apis, with the options of {@link Load}
 */

/** A line of a report. */
export const row = (name, value) => console.log(`  ${name.padEnd(34)} ${value}`);

/** @param {string} option the value of --backend */
export const backendsOf = (option) => (option === 'both' ? ['redis', 'postgres'] : [option]);

/**
 * Plays a scene on a cluster of its own, tells what was found wrong, and clears everything away.
 *
 * @param {object} setting
 * @param {'postgres' | 'redis'} setting.backend
 * @param {string} setting.title
 * @param {number} [setting.seed]
 * @param {(directory: string) => Promise<void>} [setting.change] of the copy of the product
 * @param {Record<string, string>} [setting.env]
 * @param {boolean} [setting.keep] whether the directory with the logs stays
 * @param {number} [setting.examples] told of each kind of finding
 * @param {(stage: Stage) => Promise<void>} play
 * @returns {Promise<boolean>} whether nothing was found
 */
export async function playScene({ backend, title, seed = 1, change, env, keep, examples }, play) {
  console.log(`\n== ${backend}: ${title}`);
  const findings = new Findings();
  const random = new Random(seed);
  const provider = new Provider(random.integer(0, 2 ** 31));
  await provider.listen();
  provider.faults = NO_FAULTS;
  let cluster;
  try {
    cluster = await Cluster.start({
      backend,
      directory: await copyProduct(change),
      providerUrl: (worker) => provider.baseUrl(worker),
      env,
    });
    const urls = cluster.apis.map(({ url }) => url);
    const { id: chatbotId } = await createChatbot(cluster);
    const makeLoad = (options) => new Load({ urls, chatbotId, random: random.fork(), ...options });
    await play({ cluster, provider, random, findings, makeLoad });
  } finally {
    await cluster?.close({ keep });
    await provider.close();
  }
  findings.print(examples);
  return findings.total === 0;
}

/**
 * Waits for the end of everything after processes were replaced in order: the invariants hold, and it has cost no
 * reply an attempt.
 *
 * @param {Stage} stage
 * @param {Load} load
 * @returns the counts of the round
 */
export async function checkReplaced({ cluster, provider, findings }, load) {
  if ((await drain(cluster, DRAIN_MS)) === null) findings.add('I1 not drained', `within ${DRAIN_MS} ms`);
  const endedAt = Date.now();
  await untilSeen(cluster, load.sessions, 15_000);
  const { counts } = await check({ cluster, load, provider, budget: DEFAULT_ATTEMPTS }, findings);
  const charged = counts['failures charged'];
  if (charged > 0) findings.add('a hand-back was charged', String(charged));
  return { counts, endedAt };
}
