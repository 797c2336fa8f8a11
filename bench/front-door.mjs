// `npm run bench:front-door`: what the widget and the guest page cost their visitors, in bytes, in time of the main thread,
// and in waiting. Needs a built product and a Chromium (CHROMIUM_PATH, or one on the PATH); starts a PostgreSQL, an api and
// a site with the widget of its own, and takes a minute. Prints a table, and each figure as a line of JSON.
//
//   --runs <n>    how often each is measured; the median counts
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createServer, request as send } from 'node:http';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { startTemporaryPostgres } from '../test/support/services.mjs';
import { call, startModel, startProduct } from './product.mjs';

const { values } = parseArgs({ options: { runs: { type: 'string', default: '7' } } });
const RUNS = Number(values.runs);
/** A phone of the middle class beside this machine, and its connection: each answer is so late, and comes so fast. */
const PHONE = { slowdown: 4, latencyMs: 150, bytesPerMs: 200 };
const DESKTOP = { slowdown: 1, latencyMs: 0, bytesPerMs: Infinity };
/** What a task of the main thread takes beyond this, a person may notice: "blocking time". */
const LONG_TASK_MS = 50;

/** @typedef {typeof PHONE} Device */
/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('playwright-core').BrowserContext} Context */
/** @typedef {import('playwright-core').Page} Page */
/** @typedef {{ name: string, value: number, unit: 'bytes' | 'ms' }} Figure */

/** @type {(() => unknown)[]} */
const cleanUp = [];

function findChromium() {
  const candidates = (process.env.PATH ?? '')
    .split(delimiter)
    .flatMap((path) => ['chromium', 'chromium-browser', 'google-chrome'].map((name) => join(path, name)));
  const found = [process.env.CHROMIUM_PATH, ...candidates].find((path) => {
    try {
      accessSync(path ?? '', constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new Error('There is no chromium on the PATH and CHROMIUM_PATH is not set.');
  return found;
}

/** @param {import('node:http').RequestListener} answer @returns {Promise<string>} its address */
async function serve(answer) {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanUp.unshift(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
}

/** The way of a device to the api. @param {string} api @param {Device} device */
const serveThrough = (api, { latencyMs, bytesPerMs }) =>
  serve((request, response) => {
    const upstream = send(api + request.url, {
      method: request.method,
      headers: request.headers,
      agent: false,
    });
    upstream.on('error', () => response.destroy());
    upstream.on('response', async (answer) => {
      answer.on('error', () => response.destroy());
      await sleep(latencyMs);
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      for await (const part of answer) {
        await sleep(part.length / bytesPerMs);
        response.write(part);
      }
      response.end();
    });
    request.pipe(upstream);
  });

/** A page with a text, and with the widget where there is one. */
const serveShop = () =>
  serve(({ url = '' }, response) => {
    const parameters = new URL(url, 'http://any').searchParams;
    const [api, chatbot] = ['api', 'chatbot'].map((name) => parameters.get(name));
    response.setHeader('content-type', 'text/html');
    response.end(
      `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Shop</title><link rel="icon" href="data:,">
      <main>${'<p>Bread by post.</p>'.repeat(200)}</main>
      ${api ? `<script src="${api}/widget.js" data-chatbot="${chatbot}" async></script>` : ''}`,
    );
  });

/** @param {number[]} numbers */
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;

/** @param {() => Promise<number>} measure */
async function medianOf(measure) {
  const found = [];
  for (let run = 0; run < RUNS; run++) found.push(await measure());
  return median(found);
}

/** @param {Context} context @param {Device} device */
async function newTab(context, { slowdown }) {
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await session.send('Emulation.setCPUThrottlingRate', { rate: slowdown });
  return page;
}

/** What all that a page has asked for so far took over the wire, headers and all. @param {Page} page */
function countBytes(page) {
  /** @type {Promise<number>[]} */
  const sizes = [];
  page.on('requestfinished', (request) => {
    sizes.push(request.sizes().then((size) => size.responseHeadersSize + size.responseBodySize));
  });
  return async () => (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/**
 * What the main thread of a page's process does from when a page that stands gets the loader, in its own time of the
 * processor, so that whatever else runs on this machine does not count.
 *
 * @param {Browser} browser @param {string} url of a page without it @param {string} src
 * @returns {Promise<{ scriptMs: number, totalMs: number, blockingMs: number }>} totalMs: with drawing the button
 */
async function traceLoader(browser, url, src) {
  const context = await browser.newContext();
  const page = await newTab(context, PHONE);
  await page.goto(url, { waitUntil: 'load' });
  await page.waitForTimeout(200);
  await browser.startTracing(page, { categories: ['toplevel', 'devtools.timeline'] });
  await page.evaluate(`new Promise((resolve) => {
    const script = Object.assign(document.createElement('script'), { src: '${src}', onload: resolve });
    script.dataset.chatbot = 'any';
    document.head.append(script);
  })`);
  await page.waitForTimeout(200); // until it is drawn
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
  await context.close();
  const script = traceEvents.find(
    ({ name, args }) => name === 'EvaluateScript' && args?.data?.url?.endsWith('/widget.js'),
  );
  const tasks = traceEvents
    .filter(({ name, pid, tid }) => name.endsWith('RunTask') && pid === script.pid && tid === script.tid)
    .map(({ tdur = 0 }) => tdur / 1_000);
  return {
    scriptMs: script.tdur / 1_000,
    totalMs: tasks.reduce((sum, ms) => sum + ms, 0),
    blockingMs: tasks.reduce((sum, ms) => sum + Math.max(0, ms - LONG_TASK_MS), 0),
  };
}

/** In the page and in its frame: when the launcher was pressed, and when the field had the focus. Run as a script there. */
const noteTimes = `
  const now = () => performance.timeOrigin + performance.now();
  addEventListener('click', () => (window.pressedAt ??= now()), true);
  addEventListener('focusin', ({ target }) => target.matches('textarea') &&
    document.querySelector('[role=log]') && (window.typableAt ??= now()));`;

/** @param {Page} page @param {string} url @returns {Promise<number>} from the launcher's press to where keys write */
async function timeOpening(page, url) {
  await page.goto(url);
  await page.getByRole('button', { name: 'Chat' }).click();
  const field = page.frameLocator('iframe').locator('[role=log]');
  await field.waitFor();
  const frame = page.frames()[1];
  await frame?.waitForFunction('window.typableAt');
  await page.keyboard.type('a');
  await frame?.waitForFunction(`document.querySelector('textarea').value === 'a'`);
  const [pressed, typable] = await Promise.all([page.evaluate('pressedAt'), frame?.evaluate('typableAt')]);
  await page.keyboard.press('Backspace');
  return Number(typable) - Number(pressed);
}

/** @param {Browser} browser @param {string} url @param {Device} device @param {boolean} isWarm */
async function timeToType(browser, url, device, isWarm) {
  const context = await browser.newContext();
  await context.addInitScript(noteTimes);
  const page = await newTab(context, device);
  if (isWarm) await timeOpening(page, url);
  const took = await timeOpening(page, url);
  await context.close();
  return took;
}

/** @param {Browser} browser @param {string} url @returns {Promise<{ typable: number, ready: number }>} */
async function countPage(browser, url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const bytes = countBytes(page);
  const { promise: mayLoad, resolve: load } = Promise.withResolvers();
  await page.route('**/*.js', async (route) => {
    await mayLoad;
    await route.continue();
  });
  await page.goto(url, { waitUntil: 'commit' });
  await page.locator('textarea').pressSequentially('a');
  await page.waitForTimeout(200);
  const typable = await bytes();
  load(null);
  await page.locator('.suggestions button').first().waitFor(); // what is sent goes out from now on
  await page.waitForTimeout(200);
  const ready = await bytes();
  await context.close();
  return { typable, ready };
}

const home = mkdtempSync(join(tmpdir(), 'assistly-front-door-'));
cleanUp.push(() => rmSync(home, { recursive: true, force: true, maxRetries: 5 }));
try {
  const postgres = await startTemporaryPostgres();
  cleanUp.unshift(postgres.stop);
  const model = await startModel(['Hello.']);
  cleanUp.unshift(model.stop);
  const product = await startProduct({
    databaseUrl: postgres.url,
    modelUrl: model.url,
    env: { LIMITS_ENABLED: 'false' },
  });
  cleanUp.unshift(product.stop);
  const browser = await chromium.launch({
    executablePath: findChromium(),
    env: { PATH: process.env.PATH ?? '', HOME: home },
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
  cleanUp.unshift(() => browser.close());

  const { id } = await call(`${product.url}/v1/chatbots`, product.ownerToken, {
    name: 'Bakery',
    greeting: 'Hello! Ask me about our bread.',
    appearance: { suggestions: ['When are you open?'] },
  });
  // One site with the api, and so one process with the frame, which the slowdown is for.
  const shop = await serveShop();
  const phoneApi = await serveThrough(product.url, PHONE);
  const withWidget = (api) => `${shop}/?${new URLSearchParams({ api, chatbot: id })}`;

  /** @type {[what: string, Figure][]} */
  const figures = [];
  const add = (what, name, value, unit) =>
    figures.push([what, { name, value: Math.round(value * 10) / 10, unit }]);

  const loader = await fetch(`${product.url}/widget.js`, { headers: { 'accept-encoding': 'gzip' } });
  add('the loader, compressed', 'loader.bytes', Number(loader.headers.get('content-length')), 'bytes');
  const traces = [];
  for (let run = 0; run < RUNS; run++)
    traces.push(await traceLoader(browser, `${shop}/`, `${product.url}/widget.js`));
  /** @param {'scriptMs' | 'totalMs' | 'blockingMs'} what */
  const traced = (what) => median(traces.map((trace) => trace[what]));
  add('  it runs, on a processor four times as slow', 'loader.script', traced('scriptMs'), 'ms');
  add('  all that the main thread does until it is drawn', 'loader.total', traced('totalMs'), 'ms');
  add('  of this in tasks, beyond 50 ms each', 'loader.blocking', traced('blockingMs'), 'ms');

  const page = await countPage(browser, `${product.url}/c/${id}`);
  add('the guest page until it can be typed into', 'page.typable', page.typable, 'bytes');
  add('  until a message can be sent', 'page.ready', page.ready, 'bytes');

  for (const { device, name, api } of [
    { device: DESKTOP, name: 'this machine', api: product.url },
    { device: PHONE, name: 'a phone', api: phoneApi },
  ]) {
    for (const isWarm of [false, true]) {
      const cache = isWarm ? 'warm' : 'cold';
      const took = await medianOf(() => timeToType(browser, withWidget(api), device, isWarm));
      add(`from click to typing, ${name}, ${cache} cache`, `open.${name.split(' ')[1]}.${cache}`, took, 'ms');
    }
  }

  console.log(
    `Median of ${RUNS}. A phone: a processor ${PHONE.slowdown} times as slow, each answer ${PHONE.latencyMs} ms late, ${PHONE.bytesPerMs * 8} kbit/s.\n`,
  );
  for (const [what, { value, unit }] of figures)
    console.log(`${what.padEnd(58)} ${value.toLocaleString('en').padStart(10)} ${unit}`);
  console.log();
  for (const [, figure] of figures) console.log(JSON.stringify(figure));
} finally {
  for (const end of cleanUp) await end();
}
