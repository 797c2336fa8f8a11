// Clients, as light as they can be: they share the processors with what is measured.
import { Agent, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';

/** @param {import('./stores.mjs').Session} session */
const messagesOf = ({ id }) => `/v1/sessions/${id}/messages`;
const BODY = JSON.stringify({ content: 'When are you open on Saturday, and is there rye bread?' });

/** @param {Pool} pool @param {import('./stores.mjs').Session} session @returns the body of the answer, which is to be read */
async function post(pool, session) {
  const { statusCode, body } = await pool.request({
    path: messagesOf(session),
    method: 'POST',
    headers: { authorization: `Bearer ${session.token}`, 'content-type': 'application/json' },
    body: BODY,
  });
  if (statusCode !== 202) throw new Error(`a post: ${statusCode} ${await body.text()}`);
  return body;
}

/**
 * Posts one after the other to each session, at all at once, until there are enough or it takes too long.
 *
 * @param {string} url
 * @param {import('./stores.mjs').Session[]} sessions
 * @param {{ count: number, maxMs: number }} bounds
 * @returns {Promise<number>} how many were accepted
 */
export async function postMany(url, sessions, { count, maxMs }) {
  const pool = new Pool(url, { connections: sessions.length });
  let begun = 0;
  const end = performance.now() + maxMs;
  await Promise.all(
    sessions.map(async (session) => {
      for (; begun < count && performance.now() < end; await (await post(pool, session)).dump()) begun++;
    }),
  );
  await pool.close();
  return begun;
}

/**
 * Posts once to each, so many at a time.
 *
 * @param {string} url
 * @param {import('./stores.mjs').Session[]} sessions
 * @param {number} [lanes]
 */
export async function postToEach(url, sessions, lanes = 32) {
  const pool = new Pool(url, { connections: lanes });
  const left = sessions.values();
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      for (const session of left) await (await post(pool, session)).dump();
    }),
  );
  await pool.close();
}

/**
 * Posts to one session after the other, so many a second, whether they are answered or not.
 *
 * @param {string} url
 * @param {import('./stores.mjs').Session[]} sessions
 * @param {number} perSecond
 * @param {(session: import('./stores.mjs').Session) => void} onPost called before each
 */
export async function postAtRate(url, sessions, perSecond, onPost) {
  const pool = new Pool(url, { connections: 32 });
  const begun = performance.now();
  await Promise.all(
    sessions.map(async (session, n) => {
      await sleep(Math.max(0, begun + (n * 1_000) / perSecond - performance.now()));
      onPost(session);
      await (await post(pool, session)).dump();
    }),
  );
  await pool.close();
}

/**
 * Each session asks, waits for the answer, and asks again, until the time is up.
 *
 * @param {string} url
 * @param {import('./stores.mjs').Session[]} sessions
 * @param {number} end by `performance.now()`
 */
export async function askUntil(url, sessions, end) {
  const pool = new Pool(url, { connections: sessions.length });
  await Promise.all(
    sessions.map(async (session) => {
      while (performance.now() < end) await ask(pool, session);
    }),
  );
  await pool.close();
}

/** Posts, and waits for the answer. @param {Pool} pool @param {import('./stores.mjs').Session} session */
export async function ask(pool, session) {
  const { reply } = /** @type {any} */ (await (await post(pool, session)).json());
  const answer = await pool.request({
    path: `/v1/replies/${reply.id}?wait=30`,
    method: 'GET',
    headers: { authorization: `Bearer ${session.token}` },
  });
  const { status } = /** @type {any} */ (await answer.body.json());
  if (status !== 'completed') throw new Error(`a reply is ${status}`);
}

/**
 * Follows the events of a session.
 *
 * @param {string} url
 * @param {import('./stores.mjs').Session} session
 * @param {(block: string) => void} [onEvent] each as it came, and has to be read; without it nobody looks
 * @returns {Promise<() => void>} leaves, once the stream has begun
 */
export function follow(url, { id, token }, onEvent) {
  const { promise, resolve, reject } = Promise.withResolvers();
  const request = httpRequest(`${url}/v1/sessions/${id}/events`, {
    agent: new Agent(),
    headers: { authorization: `Bearer ${token}`, accept: 'text/event-stream' },
  });
  request.on('error', reject);
  request.on('response', (response) => {
    if (response.statusCode !== 200) return reject(new Error(`a stream: ${response.statusCode}`));
    let rest = '';
    response.on('error', () => undefined);
    if (!onEvent) response.resume();
    else response.setEncoding('utf8');
    response.once('data', () => resolve(() => request.destroy())); // its first bytes: it misses nothing from here
    if (onEvent) {
      response.on('data', (part) => {
        const blocks = (rest + part).split('\n\n');
        rest = blocks.pop() ?? '';
        for (const block of blocks) onEvent(block);
      });
    }
  });
  request.end();
  return promise;
}

/**
 * Follows many, some at a time.
 *
 * @param {string} url
 * @param {import('./stores.mjs').Session[]} sessions
 * @param {(session: import('./stores.mjs').Session, block: string) => void} [onEvent]
 * @returns {Promise<() => void>} leaves them all
 */
export async function followEach(url, sessions, onEvent) {
  /** @type {(() => void)[]} */
  const leave = [];
  const left = sessions.values();
  await Promise.all(
    Array.from({ length: 32 }, async () => {
      for (const session of left)
        leave.push(await follow(url, session, onEvent && ((block) => onEvent(session, block))));
    }),
  );
  return () => {
    for (const one of leave) one();
  };
}

/** @param {string} block */
export const isDelta = (block) => /^event: reply\.delta$/m.test(block);
/** @param {string} block */
export const isCompletion = (block) => /^event: reply\.completed$/m.test(block);
