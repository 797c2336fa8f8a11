import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { check, checkLeaks, drain, Findings, untilSeen } from './lib/checks.mjs';
import { Cluster, copyProduct, createChatbot } from './lib/cluster.mjs';
import { Load } from './lib/load.mjs';
import { NO_FAULTS, Provider } from './lib/provider.mjs';
import { Random } from './lib/random.mjs';

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
const DRAIN_MS = 60_000;

async function restart(backend) {
  console.log(`\n== ${backend}: a restart of everything in the middle of ${REPLIES} replies`);
  const findings = new Findings();
  const random = new Random(1);
  const provider = new Provider(1);
  await provider.listen();
  provider.faults = NO_FAULTS;
  provider.words = [120, 160]; // about 12 s an answer: longer than the drain of 3 s
  provider.paceMs = [70, 90];
  let cluster;
  try {
    cluster = await Cluster.start({
      backend,
      directory: await copyProduct(),
      providerUrl: (worker) => provider.baseUrl(worker),
    });
    const load = new Load({
      urls: cluster.apis.map(({ url }) => url),
      chatbotId: (await createChatbot(cluster)).id,
      random,
      guests: 0,
      cancelShare: 0,
      readShare: 0,
      cutAfterMs: Infinity,
    });
    await Promise.all(
      Array.from({ length: REPLIES }, async (_, i) => {
        const session = await load.open(`r${i}`, random.fork());
        await load.post(session, `r${i}-1`, random);
      }),
    );
    const running = async () =>
      (await cluster.query(`select count(*)::int as n from replies where status = 'in_progress'`))[0].n;
    while ((await running()) < REPLIES) await sleep(50);
    await sleep(2_000); // the text of all of them has begun

    const inProgress = await running();
    const stoppingAt = Date.now();
    const bad = await cluster.stopProcesses();
    const stopMs = Date.now() - stoppingAt;
    for (const each of bad) findings.add('a process did not end well', each);
    const [{ n: leased }] = await cluster.query(
      `select count(*)::int as n from replies where lease_token is not null`,
    );
    if (leased > 0) findings.add('a reply was not handed back', String(leased));
    if (backend === 'redis') await cluster.restartRedis(200);
    await cluster.restartPostgres('fast', 0);
    const startingAt = Date.now();
    for (const each of cluster.processes) each.start();
    const drainedMs = await drain(cluster, DRAIN_MS);
    if (drainedMs === null) findings.add('I1 not drained', `within ${DRAIN_MS} ms`);
    const finishedMs = Date.now() - startingAt;
    await untilSeen(cluster, load.sessions, 15_000);
    const result = await check({ cluster, load, provider, budget: 4 }, findings);
    const charged = result.counts['failures charged'];
    if (charged > 0) findings.add('a hand-back was charged', String(charged));
    if (result.counts.completed !== REPLIES)
      findings.add('not all are completed', String(result.counts.completed));
    const leaks = await checkLeaks({ cluster, load }, findings);
    const row = (name, value) => console.log(`  ${name.padEnd(34)} ${value}`);
    row('in progress at the signal', inProgress);
    row('everything stopped after', `${stopMs} ms`);
    row('everything finished after', `${finishedMs} ms, counted from the start`);
    for (const name of [
      'replies',
      'completed',
      'attempts',
      'failures charged',
      'provider calls',
      'snapshots',
    ]) {
      row(name, result.counts[name]);
    }
    row('subscriptions before the end', leaks.subscriptions);
  } finally {
    await cluster?.close({ keep: options.keep });
    await provider.close();
  }
  findings.print();
  return findings.total === 0;
}

let isGood = true;
for (const backend of options.backend === 'both' ? ['redis', 'postgres'] : [options.backend]) {
  isGood = (await restart(backend)) && isGood;
}
process.exit(isGood ? 0 : 1);
