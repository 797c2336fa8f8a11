// Posts where a million messages are stored, beside a database that holds nothing but its chatbots and sessions.
import pg from 'pg';
import { startProduct } from '../product.mjs';
import { postMany } from './load.mjs';
import { endRepliesAtOnce } from './posts.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';

const SESSIONS = 100_000;
const MESSAGES_OF_SESSION = 10;
const CONNECTIONS = 64;
const ROUND = { count: 1_500, maxMs: 3_000 };

/** @param {string} url */
async function fill(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('set session_replication_role = replica'); // each row is right, and no trigger has to see it
    await client.query(
      `insert into chat_sessions (id, chatbot_id, token_hash, event_token_key, message_count, last_message_at)
       select gen_random_uuid(), bots.ids[1 + n % cardinality(bots.ids)], 'stored ' || n, 'stored', $2, now()
       from generate_series(1, $1::int) as n, (select array_agg(id) as ids from chatbots) as bots`,
      [SESSIONS, MESSAGES_OF_SESSION],
    );
    await client.query(
      `insert into replies (id, chat_session_id, status, finished_at, announced_at, is_counted)
       select gen_random_uuid(), id, 'completed', now(), now(), true
       from chat_sessions, generate_series(1, $1 / 2) where event_token_key = 'stored'`,
      [MESSAGES_OF_SESSION],
    );
    await client.query(
      `insert into messages (id, chat_session_id, sequence, sender, content, reply_id)
       select gen_random_uuid(), chat_session_id, 2 * n - 1 + half, (array['user', 'ai'])[half + 1],
         repeat('Some words of a message. ', 8), id
       from (select r.id, chat_session_id, row_number() over (partition by chat_session_id) as n
             from replies r join chat_sessions s on s.id = r.chat_session_id where s.event_token_key = 'stored') as numbered,
         generate_series(0, 1) as half`,
    );
    await client.query('vacuum analyze');
  } finally {
    await client.end();
  }
}

/** @param {import('./run.mjs').Run} run */
export async function stored({ stores, backend, report, rounds, modelUrl, onEnd }) {
  /** @param {boolean} isFull */
  const start = async (isFull) => {
    const databaseUrl = await stores.copyDatabase();
    if (isFull) await fill(databaseUrl);
    await endRepliesAtOnce(databaseUrl);
    const product = await startProduct({
      databaseUrl,
      modelUrl,
      roles: ['api'],
      isMigrated: true,
      env: settingsOf(backend),
    });
    onEnd(product.stop);
    return product.url;
  };
  const urls = { empty: await start(false), full: await start(true) };
  const sessions = stores.sessions.slice(0, CONNECTIONS);
  /** @param {string} url */
  const post = async (url) => {
    const begun = performance.now();
    const posted = await postMany(url, sessions, ROUND);
    return (posted * 1_000) / (performance.now() - begun);
  };
  for (const url of Object.values(urls)) await post(url); // compiled by then
  const posts = await alternate(rounds, { full: () => post(urls.full), empty: () => post(urls.empty) });
  const messages = (SESSIONS * MESSAGES_OF_SESSION).toLocaleString('en');
  report.add(
    { name: `posts a second, ${messages} messages stored, beside none`, unit: '/s', backend: backend.name },
    posts.full,
    posts.empty,
  );
}
