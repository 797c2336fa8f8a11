import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Browser, Locator, Page } from 'playwright-core';
import type { ApiClient, Json } from '../support/api-client.js';
import { startBrowser } from '../support/browser.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { checkedFetch } from '../support/contract.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

const OPERATOR = { user: 'operator', password: 'a pass:word' };
const REPLY_CONCURRENCY = 2;
/** `pg_try_advisory_xact_lock` key of the sweep. */
const RECONCILE_LOCK_KEY = 0x72706c79;

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const OPERATOR_HEADER = basic(OPERATOR.user, OPERATOR.password);

let provider: RawProvider;
let stack: Stack;
let url: string;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-canary',
      REPLY_CONCURRENCY: String(REPLY_CONCURRENCY),
      BULL_BOARD_USER: OPERATOR.user,
      BULL_BOARD_PASSWORD: OPERATOR.password,
      CORS_ORIGINS: '*',
      DRAIN_TIMEOUT_MS: '0',
    },
  });
  url = stack.apis[0]!.url;
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

interface Asked {
  replyId: string;
  sessionId: string;
  question: string;
  guest: ApiClient;
}

let questions = 0;
/** A question to a chatbot whose model makes the provider behave in a certain way. All that is text says canary. */
async function ask(model: string): Promise<Asked> {
  const chatbot = await stack.owner().createChatbot({
    name: 'canary-chatbot',
    model,
    greeting: 'canary-greeting',
    characteristics: ['canary-fact'],
  });
  const { session, guest } = await stack
    .client()
    .openSession(chatbot.id, { guest: { name: 'canary-guest', email: 'canary@example.com' } });
  const question = `canary-question-${++questions}?`;
  const { reply } = await guest.postMessage(session.id, question);
  return { replyId: reply.id, sessionId: session.id, question, guest };
}

async function askToTheEnd(model: string): Promise<Asked> {
  const asked = await ask(model);
  await asked.guest.finalReply(asked.replyId);
  return asked;
}

/** How the jobs of a reply are named: the nth bell that was rung for it. */
const jobOf = ({ replyId }: Asked, number = 1): string => `r-${replyId}-${number}`;

/** The board's own API, as the operator. */
async function board(
  path: string,
  init: RequestInit = {},
): Promise<{ status: number; body: Json; headers: Headers }> {
  const response = await fetch(`${url}/admin/queues/api${path}`, {
    ...init,
    headers: { authorization: OPERATOR_HEADER, ...(init.headers as Record<string, string>) },
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? null : JSON.parse(text), headers: response.headers };
}

async function stateOf(jobId: string): Promise<string> {
  return (await board(`/queues/replies/${jobId}`)).body.status;
}

const untilJobIs = (jobId: string, state: string): Promise<unknown> =>
  waitFor(`job ${jobId} to be ${state}`, async () => (await stateOf(jobId)) === state);

/**
 * A reply that is due, whose job failed since the database refused the claim, and which nobody rings for again:
 * the test holds the sweeper's lock.
 */
async function askInVain(): Promise<Asked> {
  await stack.database.query(`
    create function refuse_claims() returns trigger language plpgsql as $$
      begin
        if new.attempt > old.attempt then raise exception 'canary-database'; end if;
        return new;
      end $$;
    create trigger refuse_claims before update on replies for each row execute function refuse_claims()`);
  try {
    const asked = await ask('ok');
    await untilJobIs(jobOf(asked), 'failed');
    return asked;
  } finally {
    await stack.database.query('drop trigger refuse_claims on replies; drop function refuse_claims()');
  }
}

(globalThis.CHROMIUM === null && process.env['CI'] !== 'true' ? describe.skip : describe)(
  'in a browser',
  () => {
    let browser: Browser;
    let sweep: pg.Client;
    let jobs: Record<'completed' | 'rejected' | 'due' | 'delayed' | 'active' | 'waiting', Asked[]>;

    let page: Page;
    /** What the browser asked of anybody but the board, and what it complained about. */
    let complaints: string[];
    /** Everything that the board has answered, and the pages as they were looked at. */
    let seen: string[];
    let answering: Promise<unknown>[];

    beforeAll(async () => {
      browser = await startBrowser();
      sweep = new pg.Client({ connectionString: stack.database.url });
      await sweep.connect();
      await sweep.query('select pg_advisory_lock($1)', [RECONCILE_LOCK_KEY]);

      const completed = [await askToTheEnd('ok')];
      const rejected = [await askToTheEnd('quota'), await askToTheEnd('status:401')];
      for (const asked of rejected) await untilJobIs(jobOf(asked), 'failed');
      const due = [await askInVain()];
      const delayed = [await ask('busy:300')];
      await untilJobIs(jobOf(delayed[0]!, 2), 'delayed');
      // Slow enough for all that follows; with the worker's hands full, the next ones wait.
      const active = await Promise.all(Array.from({ length: REPLY_CONCURRENCY }, () => ask('pace:5000')));
      for (const asked of active) await untilJobIs(jobOf(asked), 'active');
      const waiting = await Promise.all([ask('ok'), ask('ok')]);
      jobs = { completed, rejected, due, delayed, active, waiting };
    });
    afterAll(async () => {
      await sweep?.end();
      await browser?.close();
    });

    beforeEach(async () => {
      for (const context of browser.contexts()) await context.close();
      const context = await browser.newContext({
        locale: 'en-US',
        httpCredentials: { username: OPERATOR.user, password: OPERATOR.password },
      });
      page = await context.newPage();
      page.setDefaultTimeout(30_000);
      complaints = [];
      seen = [];
      answering = [];
      page.on('request', (request) => {
        if (!request.url().startsWith(`${url}/admin/queues`)) complaints.push(request.url());
      });
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(error.message));
      page.on('response', (response) => {
        if (!response.url().includes('/api/')) return;
        // An answer that came while its page was left has no text any more.
        const text = response.text().then(
          (body) => seen.push(body),
          () => undefined,
        );
        answering.push(text);
      });
    });

    /** Opens the board and goes to one of the queue's tabs, as a person does. */
    async function openTab(state: string): Promise<void> {
      await page.goto(`${url}/admin/queues`);
      await page.getByRole('navigation').getByRole('link', { name: 'replies' }).click();
      await page
        .getByRole('main')
        .getByRole('link', { name: new RegExp(`^${state}`, 'i') })
        .click();
      await page.waitForURL(`**/queue/replies?status=${state}`);
    }

    const jobLinks = (): Locator => page.getByRole('main').getByRole('link', { name: /^r-/ });

    /** The ids in the tab that is open, once there are as many as expected. */
    async function shownJobs(count: number): Promise<string[]> {
      return waitFor('the jobs to be shown', async () => {
        const texts = await jobLinks().allInnerTexts();
        return texts.length === count ? texts.map((text) => text.trim()).sort() : null;
      });
    }

    const cardOf = (jobId: string): Locator =>
      page.locator('[class*="card-"]', { has: page.getByRole('link', { name: jobId }) });

    /** Presses the one button that a job has, and confirms. */
    async function enqueueFrom(state: string, jobId: string): Promise<void> {
      await openTab(state);
      await cardOf(jobId)
        .locator('[class^="jobActions-"]')
        .getByRole('button')
        .filter({ visible: true })
        .click();
      await page.getByRole('button', { name: 'Confirm' }).click();
      await cardOf(jobId).waitFor({ state: 'detached' });
    }

    it.each([
      ['no name and password', undefined],
      ['a wrong password', { username: OPERATOR.user, password: 'wrong' }],
      ['a wrong name', { username: 'root', password: OPERATOR.password }],
    ])('shows nothing for %s', async (_, httpCredentials) => {
      const context = await browser.newContext(httpCredentials && { httpCredentials });
      const stranger = await context.newPage();
      const statuses: number[] = [];
      stranger.on('response', (response) => statuses.push(response.status()));

      await stranger.goto(`${url}/admin/queues`).catch(() => undefined); // a prompt that nobody fills in

      expect(new Set(statuses)).toEqual(new Set([401]));
    });

    it('shows the operator every job in its state, by its ids, and nothing that people wrote', async () => {
      const expected: Record<string, string[]> = {
        waiting: jobs.waiting.map((asked) => jobOf(asked)),
        active: jobs.active.map((asked) => jobOf(asked)),
        delayed: jobs.delayed.map((asked) => jobOf(asked, 2)),
        completed: [...jobs.completed, ...jobs.delayed].map((asked) => jobOf(asked)), // its first attempt is over
        failed: [...jobs.rejected, ...jobs.due].map((asked) => jobOf(asked)),
      };
      const details = new Map<string, string>();
      for (const [state, ids] of Object.entries(expected)) {
        await openTab(state);
        expect([state, await shownJobs(ids.length)]).toEqual([state, ids.toSorted()]);
        seen.push(await page.content());

        await jobLinks().first().click();
        await page.waitForURL(/\/queue\/replies\/r-/);
        for (const tab of ['Data', 'Progress', 'Options', 'Logs', 'Error']) {
          await page.getByRole('tab', { name: tab }).click();
          const shown = await page.getByRole('tabpanel', { name: tab }).innerText();
          if (tab === 'Data') details.set(state, shown);
          seen.push(await page.content());
        }
      }
      await page.goto(`${url}/admin/queues/queue/replies/${jobOf(jobs.rejected[0]!)}`);
      await page.getByText('the reply failed: provider_rejected').waitFor();
      await page.goto(`${url}/admin/queues/queue/replies/${jobOf(jobs.due[0]!)}`);
      await page.getByText('internal', { exact: true }).waitFor();

      const [delayed] = jobs.delayed;
      expect(details.get('delayed')).toContain(delayed!.replyId);
      expect(details.get('delayed')).toContain(delayed!.sessionId);
      expect(complaints).toEqual([]);
      await Promise.all(answering);
      expect(seen.join()).toContain(delayed!.sessionId); // the answers were listened to
      expect(seen.join()).toContain('provider_rate_limited'); // why the first attempt failed
      for (const text of seen) expect(text).not.toMatch(/canary|Failed with|Answer to|bakery/i);
    });

    it('has no button but the one that rings, on jobs that are delayed or failed', async () => {
      const buttons: Record<string, (string | undefined)[]> = {};
      for (const state of ['waiting', 'active', 'delayed', 'completed', 'failed']) {
        await openTab(state);
        await jobLinks().first().waitFor();
        const icons = page.getByRole('main').locator('button svg').filter({ visible: true });
        const names = await icons.evaluateAll((found) =>
          found.map((icon) => /lucide-[a-z-]+/.exec(icon.getAttribute('class') ?? '')?.[0]),
        );
        buttons[state] = names.filter((name) => name !== 'lucide-copy'); // of the data, to the clipboard
      }

      expect(buttons).toEqual({
        waiting: [],
        active: [],
        delayed: ['lucide-corner-up-left'],
        completed: [],
        failed: ['lucide-refresh-cw', 'lucide-refresh-cw', 'lucide-refresh-cw'],
      });
    });

    describe('ringing', () => {
      beforeAll(async () => {
        // The worker gets its hands free.
        for (const { guest, replyId } of jobs.active) await guest.post(`/v1/replies/${replyId}/cancel`);
      });

      it('generates a due reply whose job had failed', async () => {
        const [due] = jobs.due;
        expect((await due!.guest.get(`/v1/replies/${due!.replyId}`)).body).toMatchObject({
          status: 'queued',
        });

        await enqueueFrom('failed', jobOf(due!));

        expect(await due!.guest.finalReply(due!.replyId)).toMatchObject({ status: 'completed', attempt: 1 });
        const messages = await due!.guest.messages(due!.sessionId);
        expect(messages.at(-1).content).toBe(answerTo(due!.question));
        await untilJobIs(jobOf(due!), 'completed'); // that very job, and no other
        expect((await board(`/queues/replies/${jobOf(due!, 2)}`)).status).toBe(404);
      });

      it('ends the pause before the next attempt of a delayed one', async () => {
        const [delayed] = jobs.delayed;

        await enqueueFrom('delayed', jobOf(delayed!, 2));

        // Far earlier than in the five minutes that the provider had asked for.
        expect(await delayed!.guest.finalReply(delayed!.replyId)).toMatchObject({
          status: 'completed',
          attempt: 2,
        });
        await untilJobIs(jobOf(delayed!, 2), 'completed');
      });

      it('changes nothing of a reply that is final', async () => {
        const [rejected] = jobs.rejected;
        const before = await rejected!.guest.get(`/v1/replies/${rejected!.replyId}`);
        const calls = provider.calls.length;

        await enqueueFrom('failed', jobOf(rejected!));

        await untilJobIs(jobOf(rejected!), 'completed');
        const { body } = await board(`/queues/replies/${jobOf(rejected!)}`);
        expect(body.job.returnValue).toEqual({ outcome: 'nothing_to_do' });
        expect((await rejected!.guest.get(`/v1/replies/${rejected!.replyId}`)).body).toEqual(before.body);
        expect(await rejected!.guest.messages(rejected!.sessionId)).toHaveLength(2); // the greeting, the question
        expect(provider.calls).toHaveLength(calls);
      });
    });
  },
);

/** Sends a request as it is written here, past everything that would tidy it up. */
async function raw(
  baseUrl: string,
  method: string,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(baseUrl);
  const socket = connect(Number(port), hostname);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(
    `${method} ${path} HTTP/1.1\r\nHost: ${hostname}\r\n${lines.join('')}Connection: close\r\n\r\n`,
  );
  let text = '';
  socket.setEncoding('utf8').on('data', (data) => (text += String(data)));
  await once(socket, 'close');
  return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]), text };
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Ways to write the board's paths. */
const PATHS = [
  '/admin/queues',
  '/admin/queues/',
  '/admin/queues//',
  '/admin/queues?x=1',
  '/admin/queues#x',
  '/admin/queues/queue/replies',
  '/admin/queues/api/queues',
  '/admin/queues/api/queues?activeQueue=replies&status=failed',
  '/admin/queues/api/queues/replies/retry/failed',
  '/admin/queues/api/queues/replies/clean/completed',
  '/admin/queues/api/queues/replies/promote',
  '/admin/queues/api/queues/replies/pause',
  '/admin/queues/api/queues/replies/add',
  '/admin/queues/static/js/main.js',
  '/admin/queues/static/locales/en-US/messages.json',
  '/admin/queues/static/../api/queues',
  '/admin/queues/static/%2e%2e/api/queues',
  '/admin/queues/../queues/api/queues',
  '/admin/queues/%2e%2e/',
  '/admin/queues/%2e%2e/queues',
  '/admin/queues/%252e%252e/queues',
  '/admin/queues/..%2f..%2fadmin/queues/api/queues',
  '/ADMIN/QUEUES',
  '/Admin/Queues/api/queues',
  '/admin//queues',
  '//admin/queues',
  '//admin//queues',
  '//admin//queues//api//queues',
  '///admin/queues/api/queues',
  '/./admin/queues',
  '/v1/../admin/queues',
  '/docs/../admin/queues/api/queues',
  '/health/live/../../admin/queues/api/queues',
  '/admin/%71ueues',
  '/admin/%2571ueues',
  '/%61dmin/queues/api/queues',
  '/admin%2fqueues',
  '/admin%252fqueues',
  '/admin/queues%2fapi%2fqueues',
  '/admin/queues%00/api/queues',
  '/admin/queues%20/api/queues',
  '/admin/queues;x=1',
  '/admin;x=1/queues/api/queues',
  '/admin/queues.json',
  '/admin/queues./api/queues',
  '/admin\\queues',
  '/admin/queues\\api\\queues',
  'http://127.0.0.1/admin/queues',
  'http://127.0.0.1//admin//queues/api/queues',
];

describe('whoever is no operator', () => {
  let guestToken: string;
  let known: string;
  beforeAll(async () => {
    const asked = await askToTheEnd('ok');
    guestToken = asked.guest.token!;
    known = asked.replyId;
    await untilJobIs(jobOf(asked), 'completed');
  });

  it('gets 401 with a challenge', async () => {
    for (const authorization of [
      undefined,
      basic('operator', 'wrong'),
      basic('wrong', OPERATOR.password),
      basic('', ''),
      basic('operator', ''),
      basic('operator', `${OPERATOR.password}x`),
      basic('operator:a pass', 'word '),
      'Basic',
      'Basic !!!',
      `Bearer ${stack.ownerToken()}`,
      `Bearer ${guestToken}`,
      basic(guestToken, ''),
      `Bearer ${OPERATOR_HEADER.slice('Basic '.length)}`,
    ]) {
      const response = await fetch(`${url}/admin/queues`, {
        headers: authorization === undefined ? {} : { authorization },
      });

      expect([authorization, response.status]).toEqual([authorization, 401]);
      expect(response.headers.get('www-authenticate')).toMatch(/^Basic realm="[^"]+"/);
      expect(await response.text()).toBe('Operators only.');
    }
  });

  it.each(PATHS)('does not get around that with %s', async (path) => {
    const credentials: Record<string, string>[] = [
      {},
      { Authorization: `Bearer ${stack.ownerToken()}` },
      { Authorization: `Bearer ${guestToken}` },
    ];
    for (const method of METHODS) {
      for (const headers of credentials) {
        const { status, text } = await raw(url, method, path, headers);

        // A preflight is answered by CORS where the path is none of the board's; 400: no path at all.
        const refusals = method === 'OPTIONS' ? [204, 400, 401, 404] : [400, 401, 404];
        expect([method, path, refusals.includes(status) || status]).toEqual([method, path, true]);
        expect(text).not.toContain(known);
        expect(text).not.toMatch(/canary|Bull|bullmq|<script/);
      }
    }
    expect(await stateOf(`r-${known}-1`)).toBe('completed'); // nothing was cleaned or rung
  });

  it('does not get around that with headers that name another path or method', async () => {
    for (const name of ['X-Original-URL', 'X-Rewrite-URL', 'X-Forwarded-Prefix']) {
      const { text } = await raw(url, 'GET', '/health/live', { [name]: '/admin/queues/api/queues' });
      expect(text).not.toContain('replies');
    }
    const overridden = await raw(url, 'POST', '/admin/queues/api/queues', {
      'X-HTTP-Method-Override': 'GET',
    });
    expect(overridden.status).toBe(401);
  });

  it('takes no credential from the path, nor the operator’s for the API', async () => {
    const userInfo = `${OPERATOR.user}:${encodeURIComponent(OPERATOR.password)}`;
    const { status } = await raw(url, 'GET', `http://${userInfo}@127.0.0.1/admin/queues`);
    const answer = await checkedFetch(`${url}/v1/chatbots`, { headers: { authorization: OPERATOR_HEADER } });

    expect([400, 401, 404]).toContain(status);
    expect(answer.status).toBe(401);
  });
});

describe('the operator', () => {
  let completed: string;
  let failed: string;
  beforeAll(async () => {
    completed = jobOf(await askToTheEnd('ok'));
    failed = jobOf(await askToTheEnd('quota'));
    await untilJobIs(completed, 'completed');
    await untilJobIs(failed, 'failed');
  });

  it.each([
    ['PUT', '/queues/pause'],
    ['PUT', '/queues/resume'],
    ['PUT', '/queues/replies/pause'],
    ['PUT', '/queues/replies/resume'],
    ['PUT', '/queues/replies/empty'],
    ['PUT', '/queues/replies/obliterate'],
    ['PUT', '/queues/replies/concurrency'],
    ['PUT', '/queues/replies/rate-limit'],
    ['PUT', '/queues/replies/rate-limit/release'],
    ['PUT', '/queues/replies/clean/failed'],
    ['PUT', '/queues/replies/clean/completed'],
    ['PUT', '/queues/replies/retry/failed'],
    ['PUT', '/queues/replies/retry/completed'],
    ['PUT', '/queues/replies/promote'],
    ['POST', '/queues/replies/add'],
    ['PUT', '/queues/replies/FAILED/clean'],
    ['PUT', '/queues/replies/COMPLETED/retry'],
    ['PATCH', '/queues/replies/FAILED/update-data'],
    ['PATCH', '/queues/replies/FAILED/delay'],
    ['PATCH', '/queues/replies/FAILED/priority'],
    ['PUT', '/queues/replies/FAILED/remove-unprocessed-children'],
  ])('changes nothing but by ringing: %s %s is refused', async (method, path) => {
    const before = await board('/queues?activeQueue=replies');

    const answer = await board(path.replace('FAILED', failed).replace('COMPLETED', completed), {
      method,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'generate', data: {}, options: {}, concurrency: 1, max: 1, duration: 1 }),
    });

    expect(answer.status).toBe(403);
    expect(answer.body).toMatchObject({ error: { key: 'ERRORS.FORBIDDEN' } });
    expect((await board('/queues?activeQueue=replies')).body).toEqual(before.body);
  });

  it('is told nothing of the store behind the queue', async () => {
    expect((await board('/redis/stats')).status).toBe(403);
  });

  it('rings for nothing where there is no such job, or no such queue', async () => {
    for (const path of ['/queues/replies/r-nothing-1/retry', '/queues/nothing/r-nothing-1/promote']) {
      expect((await board(path, { method: 'PUT' })).status).toBe(404);
    }
  });

  it.each([
    [{ 'sec-fetch-site': 'cross-site' }],
    [{ 'sec-fetch-site': 'same-site' }],
    [{ 'sec-fetch-site': 'none' }],
    [{ 'sec-fetch-site': 'cross-site', origin: 'http://127.0.0.1' }],
    [{ origin: 'https://evil.example' }],
    [{ origin: 'null' }],
    [{ origin: '' }],
  ])('is not made to act by a page from elsewhere: %p', async (headers) => {
    const { pathname } = new URL(`${url}/admin/queues/api/queues/replies/${failed}/retry`);
    const answer = await raw(url, 'PUT', pathname, { authorization: OPERATOR_HEADER, ...headers });

    expect(answer.status).toBe(403);
    expect(await stateOf(failed)).toBe('failed');
  });

  it('acts from the board itself, and from a program', async () => {
    const path = `/queues/replies/${failed}/retry`;
    const own = await board(path, { method: 'PUT', headers: { origin: url } });
    expect(own.status).toBe(204);
    await untilJobIs(failed, 'completed');

    expect((await board(path, { method: 'PUT' })).status).toBe(403); // it is completed by now
  });

  it('gets pages that nothing from elsewhere gets into, and that nobody frames, reads or keeps', async () => {
    for (const path of ['', '/queue/replies', '/static/images/logo.svg', '/api/queues']) {
      for (const authorization of [OPERATOR_HEADER, 'none']) {
        const response = await fetch(`${url}/admin/queues${path}`, {
          headers: { authorization, origin: 'https://elsewhere.example' },
        });
        const text = await response.text();

        expect(response.status).toBe(authorization === 'none' ? 401 : 200);
        const policy = response.headers.get('content-security-policy')?.split(';');
        expect(policy).toEqual(
          expect.arrayContaining(["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"]),
        );
        expect(response.headers.get('x-frame-options')).toBe('DENY');
        expect(response.headers.get('x-content-type-options')).toBe('nosniff');
        expect(response.headers.get('referrer-policy')).toBe('no-referrer');
        expect(response.headers.get('cache-control')).toBe('no-store');
        expect(response.headers.get('x-powered-by')).toBeNull();
        expect(response.headers.get('access-control-allow-origin')).toBeNull();
        expect(text).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
      }
    }
  });
});

describe('without configured credentials', () => {
  const NONE = { BULL_BOARD_USER: '', BULL_BOARD_PASSWORD: '' };

  it('there is no board in production', async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const api = await stack.addApi({
      ...NONE,
      NODE_ENV: 'production',
      CLERK_JWT_KEY: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    });

    for (const path of PATHS) {
      for (const authorization of [OPERATOR_HEADER, basic('operator', ''), basic('', '')]) {
        const { status, text } = await raw(api.url, 'GET', path, { authorization });

        expect([path, status === 400 ? 404 : status]).toEqual([path, 404]);
        expect(text).not.toMatch(/^www-authenticate/im);
      }
    }
  });

  it('elsewhere a password is made once, for whoever may read the file', async () => {
    const first = await stack.addApi(NONE);
    const file = join(stack.stateDir, 'bull-board-password');
    const password = readFileSync(file, 'utf8');
    const second = await stack.addApi(NONE);

    expect(password).toMatch(/^[\w-]{24}$/);
    expect(readFileSync(file, 'utf8')).toBe(password);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    for (const api of [first, second]) {
      const signIn = (header: string) =>
        fetch(`${api.url}/admin/queues`, { headers: { authorization: header } }).then(({ status }) => status);
      expect(await signIn(basic('operator', password))).toBe(200);
      expect(await signIn(OPERATOR_HEADER)).toBe(401);
    }
  });
});
