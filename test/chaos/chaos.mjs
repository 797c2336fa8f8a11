import { parseArgs } from 'node:util';
import { check, checkLeaks, drain, untilSeen } from './lib/checks.mjs';
import { Injector, USUAL } from './lib/faults.mjs';
import { MUTANTS } from './lib/mutants.mjs';
import { NO_FAULTS, USUAL_FAULTS } from './lib/provider.mjs';
import { backendsOf, playScene, row } from './lib/stage.mjs';

/**
 * Real processes under load and under random faults; afterwards, whatever happened, the promises must hold.
 *
 *   npm run test:chaos -- --seconds 120 --backend both
 *   npm run test:chaos -- --mutants          each defence taken out once; every round has to fail
 *   npm run test:chaos -- --mutant NAME      one of them
 */

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '120' },
    backend: { type: 'string', default: 'both' },
    seed: { type: 'string' },
    mutant: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    /** Names of faults, by commas, instead of all. */
    faults: { type: 'string' },
    guests: { type: 'string', default: '20' },
    /** Keeps the directory with the processes' logs. */
    keep: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});

const REPLY_ATTEMPTS = 6; // more than the default: here a worker is lost every few seconds
const DRAIN_MS = 90_000;

/** @returns {Promise<boolean>} whether everything held */
function round({ backend, seconds, seed, mutant = null, drainMs = DRAIN_MS }) {
  const setting = {
    backend,
    title: `${mutant ? `mutant ${mutant.name}: ${mutant.what}, ` : ''}seed ${seed}`,
    seed,
    change: mutant?.patch,
    env: { REPLY_ATTEMPTS: String(REPLY_ATTEMPTS) },
    keep: options.keep,
    examples: options.verbose ? 3 : options.mutants ? 0 : 1,
  };
  return playScene(setting, async ({ cluster, provider, random, findings, makeLoad }) => {
    const startedAt = Date.now();
    const log = (line) => {
      if (options.verbose)
        console.log(`  ${((Date.now() - startedAt) / 1000).toFixed(1).padStart(6)} s  ${line}`);
    };
    provider.faults = mutant?.provider ?? USUAL_FAULTS;
    const load = makeLoad({
      guests: Number(options.guests),
      pauseMs: 2_500,
      ...(mutant?.cancelShare && { cancelShare: mutant.cancelShare }),
    });
    load.start();
    const weights = options.faults
      ? Object.fromEntries(options.faults.split(',').map((name) => [name, USUAL[name] ?? 1]))
      : (mutant?.faults ?? USUAL);
    const injector = new Injector(cluster, provider, random.fork(), weights, log);
    await injector.run(seconds * 1000, mutant?.everyMs ?? [1_500, 4_000]);

    // Calm: what was begun is ended.
    provider.faults = NO_FAULTS;
    for (const each of cluster.processes) if (!each.isRunning) each.start();
    const posting = load.stopPosting();
    const drainedMs = await drain(cluster, drainMs);
    await Promise.race([posting, new Promise((resolve) => setTimeout(resolve, 15_000).unref())]);
    await drain(cluster, 30_000);
    log(drainedMs === null ? 'not drained' : `drained after ${drainedMs} ms`);
    await untilSeen(cluster, load.sessions, mutant ? 5_000 : 20_000);
    const result = await check({ cluster, load, provider, budget: REPLY_ATTEMPTS }, findings);
    const leaks = await checkLeaks({ cluster, load }, findings);
    report({ seconds, injector, result, leaks, load, provider, drainedMs });
    if (findings.total > 0 && !mutant) row('logs', options.keep ? cluster.logs : 'kept with --keep');
  });
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/** How long the replies of killed workers took to be taken over, and to be final. */
function takeOvers(injector, { repliesOf, audit }) {
  const claims = Map.groupBy(
    audit.filter(({ kind }) => kind === 'claim'),
    ({ reply_id }) => reply_id,
  );
  const taken = [];
  const finished = [];
  for (const { tag, at: killedAt } of injector.killed) {
    const lastClaim = (reply) =>
      (claims.get(reply.id) ?? []).findLast((claim) => Number(claim.at_ms) <= killedAt);
    const owner = (repliesOf.get(tag) ?? []).findLast((reply) => lastClaim(reply));
    if (!owner || owner.status === 'cancelled' || Number(owner.finished_ms) < killedAt) continue;
    const next = claims.get(owner.id).find((claim) => Number(claim.at_ms) > killedAt);
    if (next) taken.push(Number(next.at_ms) - killedAt);
    finished.push(Number(owner.finished_ms) - killedAt);
  }
  const summary = (list) => {
    if (list.length === 0) return 'none';
    const sorted = list.toSorted((a, b) => a - b);
    return `median ${(at(sorted, 0.5) / 1000).toFixed(1)} s, worst ${(sorted.at(-1) / 1000).toFixed(1)} s (${sorted.length})`;
  };
  return { taken: summary(taken), finished: summary(finished) };
}

function report({ seconds, injector, result, leaks, load, provider, drainedMs }) {
  row('injected for', `${seconds} s`);
  row(
    'faults',
    Object.entries(injector.counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ') || 'none',
  );
  if (injector.errors.length > 0) row('faults that failed', injector.errors.slice(0, 5).join(' | '));
  for (const [name, value] of Object.entries(result.counts)) row(name, value);
  row('errors of failed replies', result.errors || 'none');
  row(
    'what the provider did',
    Object.entries(Object.groupBy(provider.calls, ({ kind }) => kind))
      .map(([kind, calls]) => `${kind} ${calls.length}`)
      .join(', '),
  );
  const acks = load.ackMs.toSorted((a, b) => a - b);
  row(
    'acknowledged within',
    `median ${at(acks, 0.5)} ms, 99 % ${at(acks, 0.99)} ms, worst ${acks.at(-1)} ms`,
  );
  const { taken, finished } = takeOvers(injector, result);
  row('killed worker: taken over after', taken);
  row('killed worker: finished after', finished);
  row('drained after', drainedMs === null ? 'NOT WITHIN THE BOUND' : `${(drainedMs / 1000).toFixed(1)} s`);
  row('connections before the end', leaks.connections);
  row('subscriptions before the end', leaks.subscriptions);
  row(
    'memory and files',
    leaks.footprints.map(({ name, rssMb, files }) => `${name} ${rssMb} MB/${files}`).join(', '),
  );
}

const seed = Number(options.seed ?? Date.now() % 1_000_000);
const seconds = Number(options.seconds);
let isGood = true;
if (options.mutants || options.mutant) {
  const names = options.mutant ? [options.mutant] : Object.keys(MUTANTS);
  const survivors = [];
  for (const name of names) {
    if (!(name in MUTANTS))
      throw new Error(`there is no mutant ${name}; there are ${Object.keys(MUTANTS).join(', ')}`);
    const mutant = { name, ...MUTANTS[name] };
    const backend = options.backend === 'both' ? mutant.backend : options.backend;
    const seconds = options.mutants ? Math.min(Number(options.seconds), 40) : Number(options.seconds);
    if (await round({ backend, seconds, seed, mutant, drainMs: 45_000 })) survivors.push(name);
  }
  isGood = survivors.length === 0;
  console.log(isGood ? '\nevery mutant was caught' : `\nNOT CAUGHT: ${survivors.join(', ')}`);
} else {
  for (const backend of backendsOf(options.backend)) {
    isGood = (await round({ backend, seconds, seed })) && isGood;
  }
}
process.exit(isGood ? 0 : 1);
