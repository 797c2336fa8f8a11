// The product beside LangGraph.js' development server, which a user may pick instead: it runs a graph for each message and keeps
// all in memory. Both ask the same model. Asks the registry the first time.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { freePort } from '../../test/support/services.mjs';
import { startProduct } from '../product.mjs';
import { askBare } from './floor-calls.mjs';
import { ask } from './load.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';
import { median } from './statistics.mjs';

const FOLDER = fileURLToPath(new URL('../langgraph/', import.meta.url));
const MODEL = 'plain:20:0';
const CLIENTS = 20;
const RUNS = 200;
/** One after the other, with nothing else to do. */
const FIRST_TOKENS = 20;
const PAUSE_MS = 25;
const QUESTION = 'When are you open on Saturday?';
const READY_TIMEOUT_MS = 60_000;

/**
 * @typedef {object} Server
 * @property {() => Promise<any>} begin a conversation
 * @property {(conversation: any) => Promise<void>} run posts a message, and resolves with the answer
 * @property {(conversation: any) => Promise<void>} untilText posts a message, and resolves with its first text
 */

/** @param {import('./run.mjs').Run} run */
export async function beside({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const langGraph = await startLangGraph(modelUrl);
  onEnd(langGraph.stop);
  const product = await startProduct({
    databaseUrl: await stores.copyDatabase(),
    modelUrl,
    isMigrated: true,
    env: settingsOf(backend, { OPENAI_MODEL: MODEL }),
  });
  onEnd(product.stop);
  const [ours, theirs] = [
    new Pool(product.url, { connections: CLIENTS }),
    new Pool(langGraph.url, { connections: CLIENTS }),
  ];
  onEnd(() => Promise.all([ours.close(), theirs.close()]));
  const sessions = stores.sessions.values();
  const sides = {
    product: productOn(ours, () => sessions.next().value ?? stores.sessions[0]),
    langGraph: langGraphOn(theirs),
  };
  for (const side of Object.values(sides)) await runAll(side); // compiled by then
  const runs = await alternate(rounds, {
    product: () => runAll(sides.product),
    langGraph: () => runAll(sides.langGraph),
  });
  const first = await alternate(rounds, {
    direct: () => timesOf(() => untilModelSpeaks(modelUrl)),
    product: () => firstTexts(sides.product),
    langGraph: () => firstTexts(sides.langGraph),
  });
  const { name } = backend;
  report.add(
    {
      name: `runs a second, ${CLIENTS} clients, beside LangGraph.js ${langGraph.version}`,
      unit: '/s',
      backend: name,
    },
    runs.product,
    runs.langGraph,
  );
  report.add(
    {
      name: `added to the first token, one client, beside LangGraph.js ${langGraph.version}`,
      unit: 'ms',
      backend: name,
    },
    first.product.map((ms, round) => ms - first.direct[round]),
    first.langGraph.map((ms, round) => ms - first.direct[round]),
  );
}

/** @param {string} modelUrl */
async function startLangGraph(modelUrl) {
  const cli = `${FOLDER}node_modules/@langchain/langgraph-cli/`;
  if (!existsSync(cli)) {
    const npm = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--workspaces=false'];
    execFileSync('npm', npm, { cwd: FOLDER, stdio: ['ignore', 'ignore', 'inherit'] });
  }
  const { version } = JSON.parse(
    readFileSync(`${FOLDER}node_modules/@langchain/langgraph-api/package.json`, 'utf8'),
  );
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [`${cli}dist/cli/cli.mjs`, 'dev', '--port', String(port), '--no-browser'],
    {
      cwd: FOLDER,
      env: {
        PATH: process.env.PATH,
        MODEL,
        MODEL_URL: modelUrl,
        LANGSMITH_TRACING: 'false',
        LANGGRAPH_CLI_NO_ANALYTICS: '1',
      },
      stdio: ['ignore', 'ignore', 'inherit'],
      detached: true, // it starts others, which are ended with it
    },
  );
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      process.kill(-Number(child.pid), 'SIGKILL');
      await once(child, 'exit');
    }
    await rm(`${FOLDER}.langgraph_api`, { recursive: true, force: true }); // what it keeps for its next start
  };
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const isUp = await fetch(`${url}/ok`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isUp) return { url, version, stop };
    if (child.exitCode !== null || performance.now() > deadline) {
      await stop();
      throw new Error('the development server of LangGraph.js does not start');
    }
    await sleep(100);
  }
}

/**
 * @param {Pool} pool
 * @param {() => import('./stores.mjs').Session | undefined} nextSession
 * @returns {Server}
 */
function productOn(pool, nextSession) {
  return {
    begin: async () => nextSession(),
    run: (session) => ask(pool, session),
    async untilText({ id, token }) {
      const message = { id: crypto.randomUUID(), role: 'user', parts: [{ type: 'text', text: QUESTION }] };
      const { body } = await pool.request({
        path: `/v1/sessions/${id}/chat`,
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ messages: [message] }),
      });
      await untilSays(body, 'text-delta');
    },
  };
}

/** @param {Pool} pool @returns {Server} */
function langGraphOn(pool) {
  /** @param {string} path @param {object} body */
  const post = (path, body) =>
    pool.request({
      path,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const input = { messages: [{ role: 'user', content: QUESTION }] };
  return {
    async begin() {
      const { body } = await post('/threads', {});
      return /** @type {any} */ (await body.json()).thread_id;
    },
    async run(thread) {
      const { body } = await post(`/threads/${thread}/runs/wait`, { assistant_id: 'chat', input });
      const { messages } = /** @type {any} */ (await body.json());
      if (!messages?.at(-1)?.content) throw new Error('a run has no answer');
    },
    async untilText(thread) {
      const { body } = await post(`/threads/${thread}/runs/stream`, {
        assistant_id: 'chat',
        input,
        stream_mode: ['messages-tuple'],
      });
      await untilSays(body, 'event: messages');
    },
  };
}

/** Reads to the end, since both go on answering. @param {AsyncIterable<Buffer>} body @param {string} sign @returns {Promise<void>} when it was there */
function untilSays(body, sign) {
  return new Promise((resolve, reject) => {
    const read = async () => {
      let text = '';
      for await (const part of body) {
        text += part;
        if (text.includes(sign)) resolve();
      }
      throw new Error(`no ${sign} came`);
    };
    read().catch(reject); // which does nothing once it has resolved
  });
}

/** @param {Server} server @returns how many runs a second */
async function runAll(server) {
  const conversations = await Promise.all(Array.from({ length: CLIENTS }, () => server.begin()));
  const begun = performance.now();
  let left = RUNS;
  await Promise.all(
    conversations.map(async (conversation) => {
      while (left-- > 0) await server.run(conversation);
    }),
  );
  return RUNS / ((performance.now() - begun) / 1_000);
}

/** @param {() => Promise<void>} work @returns median of how long it took, in ms */
async function timesOf(work) {
  const times = [];
  for (let n = 0; n < FIRST_TOKENS; n++) {
    const begun = performance.now();
    await work();
    times.push(performance.now() - begun);
    await sleep(PAUSE_MS);
  }
  return median(times);
}

/** @param {Server} server */
async function firstTexts(server) {
  const conversation = await server.begin();
  return timesOf(() => server.untilText(conversation));
}

/** @param {string} modelUrl */
const untilModelSpeaks = (modelUrl) =>
  new Promise((resolve, reject) => {
    askBare(modelUrl, MODEL, [], () => resolve(undefined)).catch(reject);
  });
