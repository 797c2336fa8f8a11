// `npm run bench:one-address`: what one client address gets through in a minute, with the settings that come with the
// product, for each way of doing too much. Every row has an api, a worker and a database of its own. Needs a built product;
// starts a PostgreSQL and a model of its own, and takes some ten minutes.
//
//   --dir <clone>    the built product of another clone, as of an older version
//   --seconds <n>    how long each flood goes on, instead of a minute
//   --only <text>    the rows that have this in their name
import { randomBytes } from 'node:crypto';
import { Agent, request as httpRequest } from 'node:http';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import pg from 'pg';
import { startTemporaryPostgres } from '../test/support/services.mjs';
import { call, ENDLESS_MODEL, OPERATOR, startModel, startProduct } from './product.mjs';

const { values } = parseArgs({
  options: {
    dir: { type: 'string', default: '.' },
    seconds: { type: 'string', default: '60' },
    only: { type: 'string', default: '' },
  },
});
const FLOOD_SECONDS = Number(values.seconds);
/** Heavy bodies come one after the other, as many as there is time for: what one of them costs is the same in any window. */
const BODY_SECONDS = Math.min(15, FLOOD_SECONDS);
/** Requests of a flood that are under way at once. */
const LANES = 20;
/** What stays open is opened one by one, as a machine of two processors keeps up with. */
const OPEN_EVERY_MS = 5;
/** How long what stays open has to have been open to count. */
const STAY_MS = 5_000;
const REQUEST_TIMEOUT_MS = 60_000;

/** @typedef {Awaited<ReturnType<typeof startProduct>>} Product */
/** @typedef {{ status: number, body: string, isOpen?: boolean }} Answer */

/** What came of the tries of a row. */
class Tally {
  tried = 0;
  accepted = 0;
  firstRefusal = '';

  /** @param {Answer} answer @param {boolean} isAccepted */
  add(answer, isAccepted = answer.status >= 200 && answer.status < 300) {
    this.tried++;
    if (isAccepted) this.accepted++;
    else this.firstRefusal ||= refusalOf(answer);
  }
}

/** @param {Answer} answer */
function refusalOf({ status, body }) {
  if (status === 0) return 'no answer';
  try {
    const { code, limit } = JSON.parse(body);
    return [status, code, limit && `(${limit})`].filter(Boolean).join(' ');
  } catch {
    return String(status);
  }
}

/**
 * @param {Product} product
 * @param {{ path: string, method?: string, headers?: Record<string, string>, body?: string | Buffer, agent?: Agent }} what
 * @returns {Promise<Answer>} status 0: there was none
 */
function send({ port }, { path, method = 'GET', headers = {}, body, agent }) {
  return new Promise((resolve) => {
    const failed = () => resolve({ status: 0, body: '' });
    const request = httpRequest(
      {
        host: '127.0.0.1',
        port,
        path,
        method,
        agent: agent ?? false,
        timeout: REQUEST_TIMEOUT_MS,
        headers: {
          ...headers,
          ...(method === 'POST' && { 'content-length': Buffer.byteLength(body ?? '') }),
        },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (data) => (text += data));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
        response.on('error', failed);
      },
    );
    request.on('error', failed);
    request.on('timeout', () => request.destroy());
    request.end(body);
  });
}

/** Tries again and again until the time is up. @param {(lane: number, n: number) => Promise<Answer>} attempt */
async function flood(attempt, { seconds = FLOOD_SECONDS, lanes = LANES } = {}) {
  const tally = new Tally();
  const end = performance.now() + seconds * 1_000;
  let n = 0;
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      while (performance.now() < end) tally.add(await attempt(lane, n++));
    }),
  );
  return tally;
}

/**
 * Opens so many requests that are not to end, and counts those that are still open some seconds later.
 *
 * @param {Product} product
 * @param {number} count
 * @param {number} openStatus what such a request has by then: 200 for a stream, 0 for what is not answered yet
 * @param {(n: number) => { path: string, headers: Record<string, string> }} requestOf
 */
async function holdOpen({ port }, count, openStatus, requestOf) {
  const tally = new Tally();
  /** @type {Answer[]} */
  const answers = [];
  /** @type {import('node:http').ClientRequest[]} */
  const open = [];
  for (let n = 0; n < count; n++) {
    /** @type {Answer} */
    const answer = { status: 0, body: '', isOpen: true };
    const request = httpRequest({ host: '127.0.0.1', port, agent: false, ...requestOf(n) }, (response) => {
      answer.status = response.statusCode ?? 0;
      response.on('data', (data) => (answer.body += data));
      response.on('close', () => (answer.isOpen = false));
    });
    request.on('error', () => (answer.isOpen = false));
    request.end();
    answers.push(answer);
    open.push(request);
    await sleep(OPEN_EVERY_MS);
  }
  await sleep(STAY_MS);
  for (const answer of answers) tally.add(answer, answer.isOpen && answer.status === openStatus);
  for (const request of open) request.destroy();
  return tally;
}

const keepAlive = () => new Agent({ keepAlive: true, maxSockets: LANES });
const JSON_TYPE = { 'content-type': 'application/json' };
/** @param {string} token */
const bearer = (token) => ({ authorization: `Bearer ${token}` });

/** @param {Product} product @param {object} [more] */
const createChatbot = async ({ url, ownerToken }, more = {}) =>
  (await call(`${url}/v1/chatbots`, ownerToken, { name: 'Bakery', ...more })).id;

/** @param {Product} product @param {number} count */
async function openSessions(product, count, more = {}) {
  const chatbotId = await createChatbot(product, more);
  const sessions = [];
  for (let n = 0; n < count; n++) {
    const { session, token } = await call(`${product.url}/v1/chatbots/${chatbotId}/sessions`, '', {});
    sessions.push({ id: String(session.id), token: String(token) });
  }
  return sessions;
}

/** Sessions whose replies go on for ever. @param {Product} product @param {number} count */
async function openUnanswered(product, count) {
  const sessions = await openSessions(product, count, { model: ENDLESS_MODEL });
  const replyIds = [];
  for (const { id, token } of sessions) {
    const { reply } = await call(`${product.url}/v1/sessions/${id}/messages`, token, { content: 'When?' });
    replyIds.push(String(reply.id));
  }
  return sessions.map((session, n) => ({ ...session, replyId: replyIds[n] ?? '' }));
}

/** @param {number} sessionCount @returns {(product: Product) => Promise<Tally>} */
const postTo = (sessionCount) => async (product) => {
  const sessions = await openSessions(product, sessionCount);
  const agent = keepAlive();
  return flood((_, n) => {
    const { id, token } = sessions[n % sessionCount] ?? { id: '', token: '' };
    return send(product, {
      path: `/v1/sessions/${id}/messages`,
      method: 'POST',
      headers: { ...JSON_TYPE, ...bearer(token) },
      body: '{"content":"When are you open?"}',
      agent,
    });
  });
};

/** @param {number} count @param {number} sessionCount @returns {(product: Product) => Promise<Tally>} */
const openStreams = (count, sessionCount) => async (product) => {
  const sessions = await openSessions(product, sessionCount);
  return holdOpen(product, count, 200, (n) => {
    const { id, token } = sessions[n % sessionCount] ?? { id: '', token: '' };
    return { path: `/v1/sessions/${id}/events`, headers: bearer(token) };
  });
};

/** @param {number} count @param {number} sessionCount @returns {(product: Product) => Promise<Tally>} */
const longPoll = (count, sessionCount) => async (product) => {
  const sessions = await openUnanswered(product, sessionCount);
  return holdOpen(product, count, 0, (n) => {
    const { replyId, token } = sessions[n % sessionCount] ?? { replyId: '', token: '' };
    return { path: `/v1/replies/${replyId}?wait=30`, headers: bearer(token) };
  });
};

/** @param {Product} product */
async function stopAgain(product) {
  const [{ replyId, token }] = await openUnanswered(product, 1);
  const agent = keepAlive();
  return flood(() =>
    send(product, { path: `/v1/replies/${replyId}/cancel`, method: 'POST', headers: bearer(token), agent }),
  );
}

/** Stops a reply and asks for it again, each as soon as the other is answered. @param {Product} product */
async function askAgain(product) {
  const [{ replyId, token }] = await openUnanswered(product, 1);
  const agent = keepAlive();
  let current = replyId;
  return flood(
    async (_, n) => {
      const action = n % 2 === 0 ? 'cancel' : 'retry';
      const answer = await send(product, {
        path: `/v1/replies/${current}/${action}`,
        method: 'POST',
        headers: bearer(token),
        agent,
      });
      if (action === 'retry' && answer.status < 300) current = JSON.parse(answer.body).id;
      return answer;
    },
    { lanes: 1 },
  );
}

/** @param {Product} product */
async function guessPasswords(product) {
  const agent = keepAlive();
  const guess = () => Buffer.from(`${OPERATOR.user}:${randomBytes(9).toString('base64')}`).toString('base64');
  const tally = new Tally();
  const all = await flood(async () => {
    const answer = await send(product, {
      path: '/admin/queues',
      headers: { authorization: `Basic ${guess()}` },
      agent,
    });
    tally.add(answer, answer.status === 401); // it was looked at, and found wrong
    return answer;
  });
  if (all.accepted > 0) throw new Error('a wrong password was let in');
  return tally;
}

const MANY_VALUES = `{"guest":[{}${',{}'.repeat(43_599)}]}`;

/** @param {string | Buffer} body @param {Record<string, string>} [headers] @returns {(product: Product) => Promise<Tally>} */
const sendBodies =
  (body, headers = {}) =>
  async (product) => {
    const path = `/v1/chatbots/${await createChatbot(product)}/sessions`;
    const agent = keepAlive();
    return flood(
      () => send(product, { path, method: 'POST', headers: { ...JSON_TYPE, ...headers }, body, agent }),
      { seconds: BODY_SECONDS, lanes: 1 },
    );
  };

const GZIPPED = gzipSync(MANY_VALUES, { level: 9 });

/** @type {[what: string, run: (product: Product) => Promise<Tally>][]} */
const ROWS = [
  [
    'opens sessions',
    async (product) => {
      const path = `/v1/chatbots/${await createChatbot(product)}/sessions`;
      const agent = keepAlive();
      return flood(() => send(product, { path, method: 'POST', headers: JSON_TYPE, body: '{}', agent }));
    },
  ],
  ['posts messages to one session', postTo(1)],
  ['posts messages to 50 sessions in turn', postTo(50)],
  ['opens 200 event streams of one session', openStreams(200, 1)],
  ['opens 1,500 event streams of 50 sessions', openStreams(1_500, 50)],
  ['waits for one reply with 200 long polls', longPoll(200, 1)],
  ['waits for 50 replies with 1,500 long polls', longPoll(1_500, 50)],
  ['stops one reply again and again', stopAgain],
  ['stops a reply and asks for it again, in turn', askAgain],
  ['guesses passwords of the queue board', guessPasswords],
  ['sends a small body that is wrong', sendBodies('{"guest":1}')],
  [
    `sends ${GZIPPED.length} bytes of gzip that hold 43,600 objects`,
    sendBodies(GZIPPED, { 'content-encoding': 'gzip' }),
  ],
  [`sends the same as ${Math.round(MANY_VALUES.length / 1_000)} kB of JSON`, sendBodies(MANY_VALUES)],
];

const postgres = await startTemporaryPostgres({
  fsync: 'on',
  synchronous_commit: 'on',
  full_page_writes: 'on',
});
const model = await startModel(['An answer ', 'that ends.']);
const admin = new pg.Client({ connectionString: postgres.url });
await admin.connect();
try {
  console.log(
    `Floods of ${FLOOD_SECONDS} seconds, ${LANES} requests at once; bodies one after the other for ${BODY_SECONDS} seconds.\n`,
  );
  console.log('| one address | tried | got through | first refusal | api CPU of each, ms |');
  console.log('| --- | ---: | ---: | --- | ---: |');
  for (const [index, [what, run]] of ROWS.entries()) {
    if (!what.includes(values.only)) continue;
    const database = `one_address_${index}`;
    await admin.query(`create database ${database}`);
    const url = new URL(postgres.url);
    url.pathname = `/${database}`;
    const product = await startProduct({ dir: values.dir, databaseUrl: url.href, modelUrl: model.url });
    try {
      const before = await product.cpuMs();
      const { tried, accepted, firstRefusal } = await run(product);
      const cpuMs = (await product.cpuMs()) - before;
      console.log(
        `| ${what} | ${tried.toLocaleString('en')} | ${accepted.toLocaleString('en')} | ${firstRefusal || '–'} | ${(cpuMs / tried).toFixed(2)} |`,
      );
    } finally {
      await product.stop();
    }
    await admin.query(`drop database ${database} with (force)`);
  }
} finally {
  await admin.end();
  await model.stop();
  await postgres.stop();
}
