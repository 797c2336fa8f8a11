import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, copyProduct, createChatbot } from './lib/cluster.mjs';
import { drain } from './lib/checks.mjs';
import { Heaps } from './lib/heaps.mjs';
import { Load } from './lib/load.mjs';
import { NO_FAULTS, Provider } from './lib/provider.mjs';
import { Random } from './lib/random.mjs';

/**
 * Moderate load for long, without faults; every session is deleted by its owner when its guest has left. So whatever
 * grows between the start (after a warm-up) and the end is a leak, or is kept on purpose, which is said.
 *
 *   npm run soak -- --minutes 20 --backend redis
 */

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    /** Seconds until what is kept for a while, and what V8 and autovacuum take, has found its level. */
    warmup: { type: 'string', default: '300' },
    backend: { type: 'string', default: 'redis' },
    guests: { type: 'string', default: '12' },
  },
});

/** Kept for a day, by contract. */
const KEPT = /^idempotency_keys/;
/** What may be more at the end. */
const GROWTH = { heap: 1.2, files: 20, connections: 6, redis: 1.3 };
/** What a process may open to PostgreSQL: its pool, and the connections of queue and event stream beside it. */
const CONNECTIONS_A_PROCESS = 10 + 8;
/** Resident memory goes up and down with the garbage; V8 takes about 340 MB before it collects all of it. */
const MAX_RSS_MB = 450;

const forMs = Number(options.minutes) * 60_000;
const random = new Random(7);
const provider = new Provider(7);
await provider.listen();
provider.faults = { ...NO_FAULTS, ok: 97, cut: 1, status: 1, pacing: 1 };
const heaps = new Heaps();
const cluster = await Cluster.start({
  backend: options.backend,
  directory: await copyProduct(),
  providerUrl: (worker) => provider.baseUrl(worker),
  env: { LOG_LEVEL: 'warn', ...heaps.env },
});
const owner = { authorization: `Bearer ${cluster.ownerToken()}` };
const load = new Load({
  urls: cluster.apis.map(({ url }) => url),
  chatbotId: (await createChatbot(cluster)).id,
  random,
  guests: Number(options.guests),
  pauseMs: 2_500,
  cutAfterMs: 20_000,
  postsPerSession: 8,
  onLeave: async (session) => {
    if (load.isStopped) return;
    await session.follower.stop();
    const response = await fetch(`${cluster.apis[0].url}/v1/sessions/${session.id}`, {
      method: 'DELETE',
      headers: owner,
    });
    if (response.status !== 204) console.log(`deleting a session was answered with ${response.status}`);
    load.sessions = load.sessions.filter((each) => each !== session);
    for (const { tag } of session.posts) provider.byTag.delete(tag);
    provider.calls.length = 0;
  },
});

/** What each process holds after its garbage is gone, in MB. */
const heapsMb = () =>
  Promise.all(cluster.processes.map(async (each) => Math.round((await heaps.bytesOf(each)) / 1024 / 1024)));

async function measure() {
  const tables = await cluster.query(
    `select n.nspname || '.' || c.relname as name, pg_total_relation_size(c.oid)::int as bytes,
       (select n_live_tup::int from pg_stat_all_tables t where t.relid = c.oid) as rows
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname in ('public', 'bullmq') order by 1`,
  );
  const [{ n: connections }] = await cluster.query(
    `select count(*)::int as n from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and application_name <> 'chaos'`,
  );
  const redis = {};
  if (options.backend === 'redis') {
    redis.bytes = Number(/used_memory:(\d+)/.exec(await cluster.redisCli('INFO', 'memory'))?.[1]);
    redis.keys = Number(await cluster.redisCli('DBSIZE'));
    redis.clients = Number(/connected_clients:(\d+)/.exec(await cluster.redisCli('INFO', 'clients'))?.[1]);
    redis.channels = (await cluster.redisCli('PUBSUB', 'CHANNELS', '*'))
      .split('\n')
      .filter((name) => name !== '' && !name.endsWith(':proof')).length;
  }
  return {
    processes: cluster.processes.map((each) => ({ name: each.name, ...each.footprint() })),
    tables: tables.filter(({ name }) => !name.endsWith('.chaos_audit')),
    connections,
    redis,
  };
}

load.start();
await sleep(Number(options.warmup) * 1000);
const start = await measure();
const heapsAtStart = await heapsMb();
const rss = cluster.processes.map(() => []);
const startedAt = Date.now();
const postsAtStart = load.counts.posts;
while (Date.now() - startedAt < forMs) {
  await sleep(Math.min(60_000, startedAt + forMs - Date.now()));
  const now = await measure();
  now.processes.forEach(({ rssMb }, i) => rss[i].push(rssMb));
  const minutes = ((Date.now() - startedAt) / 60_000).toFixed(1);
  console.log(
    `${minutes} min: ${now.processes.map(({ name, rssMb, files }) => `${name} ${rssMb} MB/${files}`).join(', ')}` +
      `; connections ${now.connections}` +
      (now.redis.bytes
        ? `; Redis ${(now.redis.bytes / 1024 / 1024).toFixed(1)} MB, ${now.redis.keys} keys`
        : ''),
  );
}
const end = await measure();
const heapsAtEnd = await heapsMb();
const posts = load.counts.posts - postsAtStart;

const grown = [];
const row = (name, from, to, isFlat) => {
  console.log(
    `  ${name.padEnd(44)} ${String(from).padStart(12)} ${String(to).padStart(12)}${isFlat ? '' : '   GROWN'}`,
  );
  if (!isFlat) grown.push(name);
};
console.log(`\n== soak on ${options.backend}, ${options.minutes} minutes, ${posts} posts (start, end)`);
end.processes.forEach(({ name, files }, i) => {
  const before = start.processes[i];
  row(
    `${name} heap without garbage, MB`,
    heapsAtStart[i],
    heapsAtEnd[i],
    heapsAtEnd[i] <= heapsAtStart[i] * GROWTH.heap + 5,
  );
  row(
    `${name} resident memory, MB (highest)`,
    before.rssMb,
    Math.max(...rss[i]),
    Math.max(...rss[i]) <= MAX_RSS_MB,
  );
  row(`${name} open files`, before.files, files, files <= before.files + GROWTH.files);
});
row(
  'connections to PostgreSQL',
  start.connections,
  end.connections,
  end.connections <= CONNECTIONS_A_PROCESS * cluster.processes.length,
);
if (options.backend === 'redis') {
  row(
    'Redis memory, kB',
    Math.round(start.redis.bytes / 1024),
    Math.round(end.redis.bytes / 1024),
    end.redis.bytes <= start.redis.bytes * GROWTH.redis,
  );
  row('Redis keys', start.redis.keys, end.redis.keys, true);
  row(
    'Redis connections',
    start.redis.clients,
    end.redis.clients,
    end.redis.clients <= start.redis.clients + GROWTH.connections,
  );
  row(
    'subscriptions',
    start.redis.channels,
    end.redis.channels,
    end.redis.channels <= Number(options.guests) * 3,
  );
}
for (const { name, bytes, rows } of end.tables) {
  const before = start.tables.find((table) => table.name === name);
  const isKept = KEPT.test(name.split('.')[1]);
  const isFlat = isKept || bytes <= before.bytes * 2 + 1_000_000;
  row(
    `${name}, kB (rows ${before.rows} → ${rows})`,
    Math.round(before.bytes / 1024),
    Math.round(bytes / 1024),
    isFlat,
  );
}
await load.stopPosting();
await drain(cluster, 30_000);
await load.stopFollowing();
for (const bad of await cluster.stopProcesses()) grown.push(bad);
await cluster.close();
await provider.close();
heaps.close();
console.log(grown.length === 0 ? '  flat' : `  NOT FLAT: ${grown.join(', ')}`);
process.exit(grown.length === 0 ? 0 : 1);
