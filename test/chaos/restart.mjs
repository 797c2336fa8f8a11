import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkLeaks } from './lib/checks.mjs';
import { backendsOf, checkReplaced, playScene, row } from './lib/stage.mjs';

/**
 * A restart of everything, the stores included, in the middle of fifty running replies: all of them are finished
 * afterwards, none twice, and whoever watched has seen each of them whole.
 *
 *   node test/chaos/restart.mjs --backend both
 */

const { values: options } = parseArgs({
  options: { backend: { type: 'string', default: 'both' }, keep: { type: 'boolean', default: false } },
});
const REPLIES = 50;
const BEGIN_TIMEOUT_MS = 30_000;

/** @param {import('./lib/stage.mjs').Stage} stage */
async function restartEverything(stage) {
  const { cluster, provider, random, findings } = stage;
  provider.words = [120, 160]; // about 12 s an answer: longer than the drain of 3 s
  provider.paceMs = [70, 90];
  const load = stage.makeLoad({ guests: 0, cancelShare: 0, readShare: 0, cutAfterMs: Infinity });
  await Promise.all(
    Array.from({ length: REPLIES }, async (_, i) => {
      const session = await load.open(`r${i}`, random.fork());
      await load.post(session, `r${i}-1`, random);
    }),
  );
  const count = async (condition) =>
    (await cluster.query(`select count(*)::int as n from replies where ${condition}`))[0].n;
  const inProgress = () => count(`status = 'in_progress'`);
  for (const end = Date.now() + BEGIN_TIMEOUT_MS; (await inProgress()) < REPLIES; await sleep(50)) {
    if (Date.now() > end) throw new Error(`${await inProgress()} of ${REPLIES} replies have begun`);
  }
  await sleep(2_000); // the text of all of them has begun

  row('in progress at the signal', await inProgress());
  const stoppingAt = Date.now();
  for (const each of await cluster.stopProcesses()) findings.add('a process did not end well', each);
  row('everything stopped after', `${Date.now() - stoppingAt} ms`);
  const leased = await count('lease_token is not null');
  if (leased > 0) findings.add('a reply was not handed back', String(leased));
  if (cluster.backend === 'redis') await cluster.restartRedis(200);
  await cluster.restartPostgres('fast', 0);
  const startingAt = Date.now();
  for (const each of cluster.processes) each.start();

  const { counts, endedAt } = await checkReplaced(stage, load);
  row('everything finished after', `${endedAt - startingAt} ms, counted from the start`);
  for (const [name, value] of Object.entries(counts)) row(name, value);
  if (counts.completed !== REPLIES) findings.add('not all are completed', String(counts.completed));
  const { subscriptions } = await checkLeaks({ cluster, load }, findings);
  row('subscriptions before the end', subscriptions);
}

const title = `a restart of everything in the middle of ${REPLIES} replies`;
let isGood = true;
for (const backend of backendsOf(options.backend)) {
  isGood = (await playScene({ backend, title, keep: options.keep }, restartEverything)) && isGood;
}
process.exit(isGood ? 0 : 1);
