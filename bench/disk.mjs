// `npm run bench:disk`: how much disk and memory an exchange takes, a message of 200 characters and an answer of 600: the
// product is made to have some thousands of them, on PostgreSQL and with Redis, and then every table is measured. Needs a
// built product; starts a PostgreSQL, a model and, where there is one, a Redis of its own.
//
//   --exchanges <n>    how many, in 100 sessions
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import pg from 'pg';
import { startRedis, startTemporaryPostgres } from '../test/support/services.mjs';
import { call, startModel, startProduct } from './product.mjs';

const { values } = parseArgs({ options: { exchanges: { type: 'string', default: '2000' } } });
const SESSIONS = 100;
const EXCHANGES = Number(values.exchanges);
/** Replies that are under way at once: so many streams of text as a machine of two processors keeps up with. */
const LANES = 25;
const WORDS = 'When are you open on the Saturday before the holidays, and is there rye bread left by then? ';
const QUESTION = WORDS.repeat(3).slice(0, 200);
/** 600 characters in 100 pieces over two seconds. The event stream gathers them for 50 ms: some 40 events. */
const ANSWER = Array.from({ length: 100 }, (_, n) => WORDS.repeat(8).slice(n * 6, n * 6 + 6));
const PIECE_MS = 20;

/** How long the rows of a table stay. */
const STAYS = {
  session: 'as long as the session',
  day: 'a day',
  hour: 'an hour',
  chatbot: 'as long as the chatbot',
};
/** @type {Record<string, string>} by table */
const KEPT = {
  'bullmq.*': 'an hour, 1,000 jobs at most',
  chat_sessions: STAYS.session,
  chatbots: STAYS.chatbot,
  event_stream_entries: STAYS.hour,
  event_stream_replies: STAYS.hour,
  event_streams: STAYS.hour,
  guests: STAYS.session,
  idempotency_keys: STAYS.day,
  messages: STAYS.session,
  replies: STAYS.session,
  session_tokens: STAYS.session, // or `SESSION_TOKEN_TTL_DAYS` after its last use
  usage_days: STAYS.chatbot,
};
const PER_SESSION = new Set(['chat_sessions', 'guests', 'session_tokens', 'event_streams']);

/** @typedef {{ name: string, rows: number, heap: number, indexes: number }} Size */

/** @param {pg.Client} client @returns {Promise<Map<string, Size>>} of all tables, by name; BullMQ's as one */
async function tableSizes(client) {
  const { rows } = await client.query(`
    select case when n.nspname = 'bullmq' then 'bullmq.*' else c.relname end as name,
      sum(greatest(c.reltuples, 0))::float8 as rows, sum(pg_table_size(c.oid))::float8 as heap,
      sum(pg_indexes_size(c.oid))::float8 as indexes
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in ('public', 'bullmq') group by 1 order by 1`);
  return new Map(rows.map((row) => [row.name, row]));
}

/** @param {string} url @param {() => Promise<void>} work */
async function measureTables(url, work) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('vacuum analyze');
    const before = await tableSizes(client);
    const { rows: wal } = await client.query('select pg_current_wal_insert_lsn() as lsn');
    await work();
    const { rows: written } = await client.query(
      'select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::float8 as bytes',
      [wal[0].lsn],
    );
    await client.query('vacuum analyze');
    await client.query('checkpoint');
    const sizes = [...(await tableSizes(client)).values()].map((size) => {
      const empty = before.get(size.name);
      return {
        ...size,
        heap: size.heap - (empty?.heap ?? 0),
        indexes: size.indexes - (empty?.indexes ?? 0),
      };
    });
    return { sizes, walBytes: Number(written[0].bytes) };
  } finally {
    await client.end();
  }
}

/** @param {Awaited<ReturnType<typeof startProduct>>} product */
async function converse({ url, ownerToken }) {
  const { id } = await call(`${url}/v1/chatbots`, ownerToken, { name: 'Bakery' });
  let next = 0;
  await Promise.all(
    Array.from({ length: LANES }, async () => {
      while (next < SESSIONS) {
        const n = next++;
        const guest = { name: 'Ada Lovelace', email: `ada.lovelace.${n}@example.com` };
        const { session, token } = await call(
          `${url}/v1/chatbots/${id}/sessions`,
          '',
          { guest },
          { 'idempotency-key': randomUUID() },
        );
        for (let exchange = 0; exchange < EXCHANGES / SESSIONS; exchange++) {
          const { reply } = await call(
            `${url}/v1/sessions/${session.id}/messages`,
            token,
            { content: QUESTION },
            { 'idempotency-key': randomUUID() },
          );
          let current = reply;
          while (!current.finishedAt) current = await call(`${url}/v1/replies/${reply.id}?wait=30`, token);
          if (current.status !== 'completed') throw new Error(`a reply is ${current.status}`);
        }
      }
    }),
  );
}

/** @param {number} bytes */
const per = (bytes, count = EXCHANGES) => Math.round(bytes / count).toLocaleString('en');

/** @param {Size[]} sizes */
function printTables(sizes) {
  console.log('| table | kept | rows | data, bytes an exchange | indexes, bytes an exchange |');
  console.log('| --- | --- | ---: | ---: | ---: |');
  for (const { name, rows, heap, indexes } of sizes.filter((size) => size.heap + size.indexes > 0)) {
    console.log(
      `| \`${name}\`${PER_SESSION.has(name) ? ', a row a session' : ''} | ${KEPT[name] ?? '?'} | ${rows.toLocaleString('en')} | ${per(heap)} | ${per(indexes)} |`,
    );
  }
  /** @param {string} kept */
  const sum = (kept) =>
    sizes
      .filter(({ name }) => KEPT[name] === kept)
      .reduce((total, { heap, indexes }) => total + heap + indexes, 0);
  for (const kept of [STAYS.session, STAYS.day, STAYS.hour])
    console.log(`\nKept ${kept}: ${per(sum(kept))} bytes an exchange.`);
}

/** @param {string} url */
async function printRedis(url) {
  const redis = new Redis(url);
  try {
    /** @type {Map<string, { keys: number, bytes: number }>} */
    const groups = new Map();
    for await (const batch of redis.scanStream({ count: 1_000 })) {
      for (const key of batch) {
        const group = /\{[0-9a-f-]{36}\}/.test(key) ? 'event stream' : 'queue and the rest';
        const of = groups.get(group) ?? { keys: 0, bytes: 0 };
        of.keys++;
        of.bytes += Number(await redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '0'));
        groups.set(group, of);
      }
    }
    for (const [group, { keys, bytes }] of groups)
      console.log(
        `Redis, ${group}: ${keys} keys, ${bytes.toLocaleString('en')} bytes, ${per(bytes)} an exchange`,
      );
    const [, used] = /^used_memory:(\d+)/m.exec(await redis.info('memory')) ?? [];
    console.log(`Redis, used_memory of the whole server: ${Number(used).toLocaleString('en')} bytes`);
  } finally {
    redis.disconnect();
  }
}

/** @type {(() => Promise<unknown>)[]} */
const cleanUp = [];
try {
  const postgres = await startTemporaryPostgres({ full_page_writes: 'on' });
  cleanUp.unshift(postgres.stop);
  const redis = await startRedis().catch(() => null);
  if (redis) cleanUp.unshift(redis.stop);
  const model = await startModel(ANSWER, PIECE_MS);
  cleanUp.unshift(model.stop);
  const admin = new pg.Client({ connectionString: postgres.url });
  await admin.connect();
  cleanUp.unshift(() => admin.end());

  for (const backend of redis ? ['postgres', 'redis'] : ['postgres']) {
    await admin.query(`create database disk_${backend}`);
    const url = new URL(postgres.url);
    url.pathname = `/disk_${backend}`;
    const product = await startProduct({
      databaseUrl: url.href,
      modelUrl: model.url,
      env: { LIMITS_ENABLED: 'false', ...(backend === 'redis' && redis && { REDIS_URL: redis.url }) },
    });
    try {
      const { sizes, walBytes } = await measureTables(url.href, async () => {
        await converse(product);
        await product.stop();
      });
      console.log(
        `\n${backend === 'redis' ? 'PostgreSQL and Redis' : 'PostgreSQL alone'}: ${EXCHANGES} exchanges in ${SESSIONS} sessions\n`,
      );
      printTables(sizes);
      console.log(`\nWritten to PostgreSQL's log (WAL): ${per(walBytes)} bytes an exchange.`);
      if (backend === 'redis' && redis) await printRedis(redis.url);
    } finally {
      await product.stop();
    }
  }
} finally {
  for (const end of cleanUp) await end();
}
