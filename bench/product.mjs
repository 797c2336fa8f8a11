// The product as it is run for real, for a measurement: its own processes in production mode, on a database of their own,
// and a model that answers as the measurement wants.
import { spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { signLocalOwnerToken } from '../dist/src/auth/owner-tokens.js';
import { freePort } from '../test/support/services.mjs';

const READY_TIMEOUT_MS = 60_000;
const METRICS_TOKEN = 'a-token-of-the-measurement';
export const OPERATOR = { user: 'operator', password: 'a-password-of-the-measurement' };

/** A model of this name begins an answer, and never ends it. */
export const ENDLESS_MODEL = 'endless';

/**
 * A model that answers with these pieces.
 *
 * @param {string[]} pieces
 * @param {number} [pieceMs] how long it takes for each
 */
export async function startModel(pieces, pieceMs = 0) {
  /** @param {object} delta @param {string | null} finishReason */
  const chunk = (delta, finishReason = null) =>
    `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: finishReason }] })}\n\n`;
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const { model } = JSON.parse(Buffer.concat(parts).toString());
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const content of pieces) {
      response.write(chunk({ content }));
      if (pieceMs > 0) await sleep(pieceMs);
    }
    if (model !== ENDLESS_MODEL) response.end(`${chunk({}, 'stop')}data: [DONE]\n\n`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}/v1`,
    stop: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** @typedef {'api' | 'worker' | 'all'} Role */

/** A directory for processes to stand in, without the clone's `.env`; owners are signed for by a key in it. */
let cwd = '';
function directory() {
  if (cwd === '') {
    cwd = mkdtempSync(join(tmpdir(), 'assistly-bench-'));
    process.once('exit', () => rmSync(cwd, { recursive: true, force: true }));
  }
  return cwd;
}

/** What {@link startProduct} says who an owner is by. @param {string} clerkUserId */
export const ownerTokenOf = (clerkUserId) => signLocalOwnerToken(directory(), clerkUserId);

/**
 * Starts the product's processes on a database, which is migrated first.
 *
 * @param {object} options
 * @param {string} options.databaseUrl
 * @param {string} options.modelUrl
 * @param {string} [options.dir] a clone with a built product, of this version or another
 * @param {Record<string, string>} [options.env] more settings
 * @param {readonly Role[]} [options.roles]
 * @param {boolean} [options.isMigrated] nothing is to be migrated
 */
export async function startProduct({
  databaseUrl,
  modelUrl,
  dir = '.',
  env = {},
  roles = ['api', 'worker'],
  isMigrated = false,
}) {
  const ownerToken = ownerTokenOf('user_bench');
  const key = createPublicKey(await readFile(join(directory(), 'owner-token-key.pem')));
  const port = await freePort();
  const ports = { api: port, worker: await freePort(), all: port };
  const settings = {
    PATH: process.env.PATH,
    NODE_ENV: 'production',
    LOG_LEVEL: 'fatal',
    DATABASE_URL: databaseUrl,
    CLERK_JWT_KEY: /** @type {string} */ (key.export({ type: 'spki', format: 'pem' })),
    OPENAI_BASE_URL: modelUrl,
    OPENAI_MODEL: 'quick',
    ALLOWED_MODELS: '*',
    BULL_BOARD_USER: OPERATOR.user,
    BULL_BOARD_PASSWORD: OPERATOR.password,
    METRICS_TOKEN,
    DRAIN_TIMEOUT_MS: '1000', // at the end nobody waits for a reply
    PORT: String(ports.api),
    WORKER_HEALTH_PORT: String(ports.worker),
    ...env,
  };
  /** @type {Map<Role, import('node:child_process').ChildProcess>} */
  const running = new Map();
  /** @param {string[]} command */
  const start = ([file = '', ...args]) =>
    spawn(process.execPath, [join(resolve(dir), 'dist/src', file), ...args], {
      cwd: directory(),
      env: settings,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  /** @param {Role} role */
  const pidOf = (role) => running.get(role)?.pid ?? -1;
  const stop = async () => {
    for (const child of running.values()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    }
  };
  /** @type {Record<Role, number>} from the start of each until it said that it is ready, in ms */
  const startMs = { api: 0, worker: 0, all: 0 };
  try {
    if (!isMigrated) {
      const [code] = await once(start(['cli/migrate.js']), 'exit');
      if (code !== 0) throw new Error('the migrations failed');
    }
    for (const role of roles) {
      const begun = performance.now();
      running.set(role, start(['main.js', ...(role === 'all' ? [] : [role])]));
      await untilReady(`http://127.0.0.1:${ports[role]}`);
      startMs[role] = performance.now() - begun;
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const url = `http://127.0.0.1:${ports.api}`;
  return {
    url,
    port: ports.api,
    ownerToken,
    stop,
    startMs,
    /** Of each role; -1 for one that was not started. */
    pids: { api: pidOf('api'), worker: pidOf('worker'), all: pidOf('all') },
    /** Processor time of the api so far, all its threads together, in ms. */
    async cpuMs() {
      const response = await fetch(`${url}/metrics`, {
        headers: { authorization: `Bearer ${METRICS_TOKEN}` },
      });
      const [, seconds] = /^process_cpu_seconds_total ([\d.e+-]+)$/m.exec(await response.text()) ?? [];
      if (seconds === undefined) throw new Error('the api shows no process_cpu_seconds_total');
      return Number(seconds) * 1_000;
    },
  };
}

/** Waits until a process says that it is ready. @param {string} url */
export async function untilReady(url) {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!(await fetch(`${url}/health/ready`).catch(() => null))?.ok) {
    if (performance.now() > deadline) throw new Error('a process does not get ready');
    await sleep(20);
  }
}

/**
 * A request that has to succeed.
 *
 * @param {string} url
 * @param {string} token
 * @param {object} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>} the answer
 */
export async function call(url, token, body, headers = {}) {
  const response = await fetch(url, {
    method: body ? 'POST' : 'GET',
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}
