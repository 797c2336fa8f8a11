// `npm run bench:fairness`: how long a newcomer waits for its reply to begin, alone and beside a crowd, in one run. Needs a
// built product; starts a PostgreSQL and, where there is one, a Redis of its own, an api, a worker, and a model that
// takes two to four seconds for an answer.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { signLocalOwnerToken } from '../dist/src/auth/owner-tokens.js';
import { migrate } from '../dist/src/migrate.js';
import { freePort, startRedis, startTemporaryPostgres } from '../test/support/services.mjs';

const CROWD = 200;
const NEWCOMERS = 30;
const ANSWER_MS = { least: 2_000, most: 4_000 };
const STATE_DIR = '.assistly';

/** @type {(() => Promise<unknown>)[]} */
const cleanUp = [];

/** @returns {Promise<string>} the base URL of a model */
async function startModel() {
  const chunk = (delta, finish_reason = null) =>
    `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  const server = createServer((request, response) => {
    request.resume().on('end', async () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(chunk({ content: 'An answer ' }));
      await sleep(ANSWER_MS.least + Math.random() * (ANSWER_MS.most - ANSWER_MS.least));
      response.end(`${chunk({ content: 'that ends.' }, 'stop')}data: [DONE]\n\n`);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanUp.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${/** @type {{ port: number }} */ (server.address()).port}/v1`;
}

function startRole(role, env) {
  const child = spawn(process.execPath, ['dist/src/main.js', role], {
    env: { PATH: process.env.PATH, LOG_LEVEL: 'silent', LIMITS_ENABLED: 'false', ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  cleanUp.unshift(async () => {
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
}

async function call(url, path, token, body) {
  const response = await fetch(url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

const open = (url, chatbotId) => call(url, `/v1/chatbots/${chatbotId}/sessions`, '', {});

/** @returns the reply, when it has begun or ended */
async function ask(url, { session, token }, { isAwaited }) {
  const { reply } = await call(url, `/v1/sessions/${session.id}/messages`, token, { content: 'When?' });
  for (;;) {
    const now = await call(url, `/v1/replies/${reply.id}${isAwaited ? '?wait=30' : ''}`, token);
    if (isAwaited ? now.finishedAt : now.startedAt) return now;
    if (!isAwaited) await sleep(20);
  }
}

/** @returns from post to start of each newcomer's reply, in ms by PostgreSQL's clock, sorted */
async function newcomersOf(url, owners) {
  const waits = [];
  for (let n = 0; n < NEWCOMERS; n++) {
    const { id } = await call(url, '/v1/chatbots', owners[n % owners.length], { name: 'Newcomer' });
    const reply = await ask(url, await open(url, id), { isAwaited: false });
    waits.push(Date.parse(reply.startedAt) - Date.parse(reply.createdAt));
    await sleep(100);
  }
  return waits.sort((a, b) => a - b);
}

/** Keeps so many sessions asking, until it is told to stop. */
function startCrowd(url, chatbots) {
  let isOver = false;
  const all = Array.from({ length: CROWD }, async (_, n) => {
    const opened = await open(url, chatbots[n % chatbots.length]);
    while (!isOver) await ask(url, opened, { isAwaited: true });
  });
  return async () => {
    isOver = true;
    await Promise.all(all);
  };
}

function print(what, waits, alone) {
  const middle = waits[waits.length >> 1];
  const most = waits[Math.floor(waits.length * 0.9)];
  const ratio = alone ? `  ${(middle / alone[alone.length >> 1]).toFixed(1)} x alone` : '';
  console.log(`${what.padEnd(52)} median ${middle} ms  90 % ${most} ms  longest ${waits.at(-1)} ms${ratio}`);
}

try {
  const server = await startTemporaryPostgres({ fsync: 'on', synchronous_commit: 'on' });
  cleanUp.push(server.stop);
  await migrate(server.url);
  const redis = await startRedis().catch(() => null);
  if (redis) cleanUp.push(redis.stop);
  const OPENAI_BASE_URL = await startModel();
  const crowdOwner = signLocalOwnerToken(STATE_DIR, 'user_crowd');
  const owners = Array.from({ length: NEWCOMERS }, (_, n) => signLocalOwnerToken(STATE_DIR, `user_${n}`));

  for (const backend of redis ? ['postgres', 'redis'] : ['postgres']) {
    const port = String(await freePort());
    const env = {
      DATABASE_URL: server.url,
      OPENAI_BASE_URL,
      ...(backend === 'redis' && redis && { REDIS_URL: redis.url }),
    };
    const stopCount = cleanUp.length;
    startRole('api', { ...env, PORT: port });
    startRole('worker', { ...env, WORKER_HEALTH_PORT: '0' });
    const url = `http://127.0.0.1:${port}`;
    while (!(await fetch(`${url}/health/ready`).catch(() => null))?.ok) await sleep(100);
    await sleep(2_000); // the worker
    console.log(
      `\n${backend === 'redis' ? 'PostgreSQL and Redis' : 'PostgreSQL alone'}: from post to start of a newcomer's reply`,
    );
    const chatbot = async () => (await call(url, '/v1/chatbots', crowdOwner, { name: 'Crowd' })).id;
    const alone = await newcomersOf(url, owners);
    print('alone', alone);
    for (const [what, count] of [
      [`beside one chatbot with ${CROWD} sessions asking`, 1],
      [`beside 20 chatbots of one owner with ${CROWD} sessions`, 20],
    ]) {
      const stop = startCrowd(url, await Promise.all(Array.from({ length: count }, chatbot)));
      await sleep(4_000);
      print(what, await newcomersOf(url, owners), alone);
      await stop();
    }
    for (const end of cleanUp.splice(0, cleanUp.length - stopCount)) await end();
  }
} finally {
  for (const end of cleanUp) await end();
}
