// The stores of a run: a PostgreSQL with a database of some thousand sessions to copy, and a Redis where there is one.
import { createHash, randomUUID } from 'node:crypto';
import pg from 'pg';
import { migrate } from '../../dist/src/migrate.js';
import { startRedis, startTemporaryPostgres } from '../../test/support/services.mjs';
import { parentOf, processorMs, processorMsOfFamily } from './processor.mjs';

export const CHATBOTS = 8;
const SEED = 'seed';
/** Rows of each kind for a page of 100 that is not the last. */
const PAGE_ROWS = 150;

/** An owner of as many chatbots as fill a page. */
export const OWNER_OF_PAGES = 'user_pages';
/** @param {number} chatbot */
export const ownerOf = (chatbot) => `user_${chatbot}`;

/** @typedef {{ id: string, token: string, chatbot: number }} Session */

/**
 * @typedef {object} Backend
 * @property {'postgres' | 'redis'} name
 * @property {string | null} redisUrl
 */

/** @param {{ sessions: number }} size */
export async function startStores({ sessions: count }) {
  const server = await startTemporaryPostgres({
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    shared_buffers: '256MB',
  });
  const redis = await startRedis().catch(() => null);
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  const { rows } = await admin.query(
    'select pg_backend_pid() as pid, split_part(version(), $1, 2) as version',
    [' '],
  );
  const postmaster = parentOf(rows[0].pid);
  /** @param {string} name */
  const urlOf = (name) => {
    const url = new URL(server.url);
    url.pathname = `/${name}`;
    return url.href;
  };
  await admin.query(`create database ${SEED}`);
  const { sessions, pages } = await seed(urlOf(SEED), count);
  let databases = 0;
  return {
    sessions,
    pages,
    redis,
    version: rows[0].version,
    /** @type {Backend[]} */
    backends: [
      { name: 'postgres', redisUrl: null },
      ...(redis ? [/** @type {const} */ ({ name: 'redis', redisUrl: redis.url })] : []),
    ],
    /** Clocks for `measure`. */
    clocks: {
      postgres: () => processorMsOfFamily(postmaster),
      redis: () => (redis?.process.pid === undefined ? 0 : processorMs(redis.process.pid)),
    },
    /** @returns {Promise<string>} the URL of a database with the chatbots and sessions, and nothing else */
    async copyDatabase() {
      const name = `bench_${++databases}`;
      await admin.query(`create database ${name} template ${SEED}`);
      return urlOf(name);
    },
    async stop() {
      await admin.end();
      await redis?.stop();
      await server.stop();
    },
  };
}

/** @typedef {Awaited<ReturnType<typeof startStores>>} Stores */

/**
 * What owners and guests would have made by the API, only quicker.
 *
 * @param {string} url
 * @param {number} count of sessions, in turn of each chatbot
 */
async function seed(url, count) {
  await migrate(url);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    /** @param {string} owner @param {number} chatbots */
    const addChatbots = async (owner, chatbots) => {
      const ids = Array.from({ length: chatbots }, () => randomUUID());
      await client.query(
        `insert into chatbots (id, clerk_user_id, name) select id, $2, 'Bakery' from unnest($1::uuid[]) as id`,
        [ids, owner],
      );
      await client.query(
        `insert into chatbot_characteristics (id, chatbot_id, content, tokens, is_counted)
         select gen_random_uuid(), id, 'We are open from 7 to 18, on day ' || n || '.', 20, true
         from unnest($1::uuid[]) as id, generate_series(1, 5) as n`,
        [ids],
      );
      return ids;
    };
    const chatbots = [];
    for (let n = 0; n < CHATBOTS; n++) chatbots.push(...(await addChatbots(ownerOf(n), 1)));
    const [first] = await addChatbots(OWNER_OF_PAGES, PAGE_ROWS);
    const sessions = Array.from({ length: count }, (_, n) => newSession(n % CHATBOTS));
    const ofPages = Array.from({ length: PAGE_ROWS }, () => newSession(-1));
    const all = [...sessions, ...ofPages];
    await client.query(
      `insert into chat_sessions (id, chatbot_id, token_hash, event_token_key)
       select * from unnest($1::uuid[], $2::uuid[], $3::text[], $3::text[])`,
      [
        all.map(({ id }) => id),
        all.map(({ chatbot }) => chatbots[chatbot] ?? first),
        all.map(({ token }) => createHash('sha256').update(token).digest('hex')),
      ],
    );
    const [session] = ofPages;
    await client.query(
      `with asked as (
         insert into replies (id, chat_session_id, status, finished_at, announced_at, is_counted)
         select gen_random_uuid(), $1, 'completed', now(), now(), true from generate_series(1, $2 / 2) returning id),
       numbered as (select id, row_number() over () as n from asked)
       insert into messages (id, chat_session_id, sequence, sender, content, reply_id)
       select gen_random_uuid(), $1, 2 * n - 1 + half, (array['user', 'ai'])[half + 1],
         repeat('Some words of a message. ', 8), id
       from numbered, generate_series(0, 1) as half`,
      [session.id, PAGE_ROWS],
    );
    await client.query('update chat_sessions set message_count = $2 where id = $1', [session.id, PAGE_ROWS]);
    await client.query('vacuum analyze');
    return { sessions, pages: { chatbotId: first, session } };
  } finally {
    await client.end();
  }
}

/** @param {number} chatbot @returns {Session} */
function newSession(chatbot) {
  const id = randomUUID();
  return { id, chatbot, token: `ast_${createHash('sha256').update(id).digest('base64url')}` };
}
