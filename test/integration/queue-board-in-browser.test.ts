import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { Browser, Locator, Page } from 'playwright-core';
import { startBrowser } from '../support/browser.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import {
  type Asked,
  askCanary,
  askCanaryToTheEnd,
  board,
  jobOf,
  OPERATOR,
  untilJobIs,
} from '../support/queue-board.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** The queue board as its operator sees it. Who may reach it: test/api/bull-board. */

const REPLY_CONCURRENCY = 2;
/** `pg_try_advisory_xact_lock` key of the reconciler. */
const RECONCILE_LOCK_KEY = 0x72706c79;

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
      REPLY_SHARE_OF_OWNER: '100', // whose chatbots all of them are
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

/**
 * A reply that is due, whose job failed since the database refused the claim, and which the reconciler does not enqueue again:
 * the test holds the reconciler's lock.
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
    const asked = await askCanary(stack, 'ok');
    await untilJobIs(stack, jobOf(asked), 'failed');
    return asked;
  } finally {
    await stack.database.query('drop trigger refuse_claims on replies; drop function refuse_claims()');
  }
}

(globalThis.CHROMIUM === null && process.env['CI'] !== 'true' ? describe.skip : describe)(
  'in a browser',
  () => {
    let browser: Browser;
    let lockHolder: pg.Client;
    let jobs: Record<'completed' | 'rejected' | 'due' | 'delayed' | 'active' | 'waiting', Asked[]>;

    let page: Page;
    /** What the browser asked of anybody but the board, and what it complained about. */
    let complaints: string[];
    /** Everything that the board has answered, and the pages as they were looked at. */
    let seen: string[];
    let answering: Promise<unknown>[];

    beforeAll(async () => {
      browser = await startBrowser();
      lockHolder = new pg.Client({ connectionString: stack.database.url });
      await lockHolder.connect();
      await lockHolder.query('select pg_advisory_lock($1)', [RECONCILE_LOCK_KEY]);

      const completed = [await askCanaryToTheEnd(stack, 'ok')];
      const rejected = [
        await askCanaryToTheEnd(stack, 'quota'),
        await askCanaryToTheEnd(stack, 'status:401'),
      ];
      for (const asked of rejected) await untilJobIs(stack, jobOf(asked), 'failed');
      const due = [await askInVain()];
      const delayed = [await askCanary(stack, 'busy:300')];
      await untilJobIs(stack, jobOf(delayed[0]!, 2), 'delayed');
      // Slow enough for all that follows; with the worker's hands full, the next ones wait.
      const active = await Promise.all(
        Array.from({ length: REPLY_CONCURRENCY }, () => askCanary(stack, 'pace:5000')),
      );
      for (const asked of active) await untilJobIs(stack, jobOf(asked), 'active');
      const waiting = await Promise.all([askCanary(stack, 'ok'), askCanary(stack, 'ok')]);
      jobs = { completed, rejected, due, delayed, active, waiting };
    });
    afterAll(async () => {
      await lockHolder?.end();
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

    it('has no button but the one that enqueues, on jobs that are delayed or failed', async () => {
      const buttons: Record<string, (string | undefined)[]> = {};
      for (const state of ['waiting', 'active', 'delayed', 'completed', 'failed']) {
        await openTab(state);
        await jobLinks().first().waitFor();
        const icons = page.getByRole('main').locator('button svg').filter({ visible: true });
        // Its type depends on what else has types of a page's elements.
        const names = await icons.evaluateAll((found: { getAttribute(name: string): string | null }[]) =>
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

    describe('enqueueing again', () => {
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
        await untilJobIs(stack, jobOf(due!), 'completed'); // that very job, and no other
        expect((await board(stack, `/queues/replies/${jobOf(due!, 2)}`)).status).toBe(404);
      });

      it('ends the pause before the next attempt of a delayed one', async () => {
        const [delayed] = jobs.delayed;

        await enqueueFrom('delayed', jobOf(delayed!, 2));

        // Far earlier than in the five minutes that the provider had asked for.
        expect(await delayed!.guest.finalReply(delayed!.replyId)).toMatchObject({
          status: 'completed',
          attempt: 2,
        });
        await untilJobIs(stack, jobOf(delayed!, 2), 'completed');
      });

      it('changes nothing of a reply that is final', async () => {
        const [rejected] = jobs.rejected;
        const before = await rejected!.guest.get(`/v1/replies/${rejected!.replyId}`);
        const calls = provider.calls.length;

        await enqueueFrom('failed', jobOf(rejected!));

        await untilJobIs(stack, jobOf(rejected!), 'completed');
        const { body } = await board(stack, `/queues/replies/${jobOf(rejected!)}`);
        expect(body.job.returnValue).toEqual({ outcome: 'nothing_to_do' });
        expect((await rejected!.guest.get(`/v1/replies/${rejected!.replyId}`)).body).toEqual(before.body);
        expect(await rejected!.guest.messages(rejected!.sessionId)).toHaveLength(2); // the greeting, the question
        expect(provider.calls).toHaveLength(calls);
      });
    });
  },
);
