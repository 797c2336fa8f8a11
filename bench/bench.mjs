// `npm run bench`: what the product costs, as a ratio to the floor of the same run, since machines differ and are
// noisy. Needs a built product; starts a PostgreSQL and, where there is one, a Redis of its own.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import pg from 'pg';
import { signLocalOwnerToken } from '../dist/src/auth/owner-tokens.js';
import { migrate } from '../dist/src/migrate.js';
import { freePort, startRedis, startTemporaryPostgres } from '../test/support/services.mjs';

const COUNT = 2_000;
const CONCURRENCY = 20;
const STATE_DIR = '.assistly';
/** Limits that are counted and never reached. */
const UNREACHABLE_LIMITS = Object.fromEntries(
  ['SESSIONS_PER_ADDRESS', 'MESSAGES_PER_SESSION', 'MESSAGES_PER_ADDRESS', 'MESSAGES_PER_CHATBOT'].map(
    (name) => [`LIMIT_${name}`, '1000000/60'],
  ),
);

/** @type {(() => Promise<unknown>)[]} */
const cleanUp = [];

/** Does `work` COUNT times, CONCURRENCY at once. @returns per second, and the time of one in ms: median and 99th percentile */
async function measure(work) {
  const times = [];
  let next = 0;
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async (_, lane) => {
      while (next < COUNT) {
        next++;
        const at = performance.now();
        await work(lane);
        times.push(performance.now() - at);
      }
    }),
  );
  const seconds = (performance.now() - begun) / 1_000;
  times.sort((a, b) => a - b);
  return { perSecond: COUNT / seconds, median: times[COUNT >> 1], p99: times[Math.floor(COUNT * 0.99)] };
}

function print(what, result, floor) {
  const ratio = floor ? `${(floor.perSecond / result.perSecond).toFixed(1)} x the floor` : 'the floor';
  console.log(
    `${what.padEnd(46)} ${result.perSecond.toFixed(0).padStart(6)}/s  median ${result.median.toFixed(1)} ms  p99 ${result.p99.toFixed(1)} ms  ${ratio}`,
  );
}

async function startApi(env) {
  const port = await freePort();
  const child = spawn(process.execPath, ['dist/src/main.js', 'api'], {
    env: { PATH: process.env.PATH, LOG_LEVEL: 'silent', PORT: String(port), ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  cleanUp.unshift(async () => {
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 200; tries++) {
    const isReady = await fetch(`${url}/health/ready`).then(
      (response) => response.ok,
      () => false,
    );
    if (isReady) return url;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('the api does not get ready');
}

async function call(url, path, token, body) {
  const response = await fetch(url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** The floor: what storing a message and a reply costs a program that does nothing else. */
async function measureFloor(pool, sessions) {
  return measure(async (lane) => {
    const client = await pool.connect();
    try {
      await client.query('begin');
      const { id } = sessions[lane];
      const replyId = randomUUID();
      const { rows } = await client.query(
        'update chat_sessions set message_count = message_count + 1 where id = $1 returning message_count',
        [id],
      );
      await client.query(
        `insert into replies (id, chat_session_id, status, finished_at, announced_at) values ($1, $2, 'completed', now(), now())`,
        [replyId, id],
      );
      await client.query(
        `insert into messages (id, chat_session_id, sequence, sender, content, reply_id) values ($1, $2, $3, 'user', $4, $5)`,
        [randomUUID(), id, rows[0].message_count, 'When are you open?', replyId],
      );
      await client.query('commit');
    } finally {
      client.release();
    }
  });
}

try {
  const server = await startTemporaryPostgres({
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
  });
  cleanUp.push(server.stop);
  await migrate(server.url);
  const redis = await startRedis().catch(() => null);
  if (redis) cleanUp.push(redis.stop);
  const pool = new pg.Pool({ connectionString: server.url, max: CONCURRENCY });
  cleanUp.unshift(() => pool.end());
  const owner = signLocalOwnerToken(STATE_DIR, 'user_bench');

  for (const backend of redis ? ['postgres', 'redis'] : ['postgres']) {
    const env = {
      DATABASE_URL: server.url,
      ...(backend === 'redis' && redis && { REDIS_URL: redis.url }),
      LIMIT_REPLY_MESSAGES: '1000', // without a worker, all messages of a session join one reply
    };
    const url = await startApi({ ...env, LIMITS_ENABLED: 'false' });
    const limitedUrl = await startApi({ ...env, ...UNREACHABLE_LIMITS });
    const chatbot = await call(url, '/v1/chatbots', owner, { name: 'Bench' });
    const sessions = await Promise.all(
      Array.from({ length: CONCURRENCY }, async () => {
        const opened = await call(url, `/v1/chatbots/${chatbot.id}/sessions`, owner, {});
        return { id: opened.session.id, token: opened.token };
      }),
    );
    console.log(
      `\n${backend === 'redis' ? 'PostgreSQL and Redis' : 'PostgreSQL alone'}: ${COUNT} of each, ${CONCURRENCY} at once`,
    );
    const floor = await measureFloor(pool, sessions);
    print('storing a message and a reply, in plain SQL', floor);
    const post = (to) => (lane) =>
      call(to, `/v1/sessions/${sessions[lane].id}/messages`, sessions[lane].token, {
        content: 'When are you open?',
      });
    print('POST /v1/sessions/:id/messages', await measure(post(url)), floor);
    print('the same, counted by three limits', await measure(post(limitedUrl)), floor);
    const readFloor = await measure((lane) =>
      pool.query('select * from messages where chat_session_id = $1 order by sequence limit 51', [
        sessions[lane].id,
      ]),
    );
    print('reading a page of messages, in plain SQL', readFloor);
    print(
      'GET /v1/sessions/:id/messages',
      await measure((lane) => call(url, `/v1/sessions/${sessions[lane].id}/messages`, sessions[lane].token)),
      readFloor,
    );
  }
} finally {
  for (const end of cleanUp) await end();
}
