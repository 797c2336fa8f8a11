import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { Chat, ChatSnapshot } from 'assistly-client';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { startBrowser } from '../support/browser.js';
import { type ChatSite, startChatSite } from '../support/chat-site.js';
import { newQuestion } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** The client package in a real browser: its tabs, its storage, its network, and React. */

declare global {
  /** Of the pages. */
  var chat: Chat;
  var shown: string[];
  var leave: () => void;
}

(globalThis.CHROMIUM === null && process.env['CI'] !== 'true' ? describe.skip : describe)(
  'in a browser',
  () => {
    let provider: RawProvider;
    let stack: Stack;
    let browser: Browser;
    /** Where the pages come from: another origin than the api's. */
    let site: ChatSite;
    beforeAll(async () => {
      provider = await startRawProvider();
      stack = await Stack.start({ env: { OPENAI_BASE_URL: provider.baseUrl, DRAIN_TIMEOUT_MS: '0' } });
      browser = await startBrowser();
      site = await startChatSite();
    });
    afterAll(async () => {
      await browser?.close();
      await site?.close();
      await stack?.stop();
      await provider?.close();
    });
    afterEach(async () => {
      for (const context of browser.contexts()) await context.close();
    });

    /** A visitor's browser: its tabs, and what they ask of the api. */
    async function newVisitor(model = 'ok', { page = 'plain', hasLocks = true } = {}) {
      const { id } = await stack.owner().createChatbot({ name: 'Bakery', greeting: 'Hello!', model });
      const context: BrowserContext = await browser.newContext();
      if (!hasLocks) {
        // As in a page that came over plain http, or in an old browser.
        await context.addInitScript(() => Object.defineProperty(navigator, 'locks', { value: undefined }));
      }
      const asked: { tab: Page; what: string }[] = [];
      const api = stack.apis[0]!.url;
      const openTab = async (): Promise<Page> => {
        const tab = await context.newPage();
        tab.setDefaultTimeout(30_000);
        tab.on('request', (request) => {
          if (request.url().startsWith(api) && request.method() !== 'OPTIONS') {
            const { pathname } = new URL(request.url());
            asked.push({ tab, what: `${request.method()} ${pathname.split('/').at(-1)}` });
          }
        });
        await tab.goto(`${site.url}/${page}?${new URLSearchParams({ api, chatbot: id }).toString()}`);
        return tab;
      };
      const streams = (): Page[] => asked.filter(({ what }) => what === 'GET events').map(({ tab }) => tab);
      const count = (what: string): number => asked.filter((one) => one.what === what).length;
      return { context, openTab, streams, count };
    }

    const look = (tab: Page): Promise<ChatSnapshot> => tab.evaluate(() => globalThis.chat.getSnapshot());
    const said = async (tab: Page): Promise<string[]> =>
      (await look(tab)).messages.map(({ content }) => content);
    const send = (tab: Page, text: string): Promise<unknown> =>
      tab.evaluate((question) => globalThis.chat.send(question), text);
    const untilOpen = (tab: Page): Promise<unknown> =>
      waitFor('the chat to be open', async () => (await look(tab)).status === 'open');
    const untilText = (tab: Page): Promise<unknown> =>
      waitFor('some text', async () => (await look(tab)).reply?.text);
    const untilSaid = (tab: Page, text: string): Promise<unknown> =>
      waitFor(`"${text}" to be shown`, async () => (await said(tab)).includes(text));

    /** All that was shown grew to the whole answer, and nothing stood there twice. */
    async function expectGrown(tab: Page, answer: string): Promise<void> {
      const shown = await tab.evaluate(() => globalThis.shown);
      expect(shown.length).toBeGreaterThan(0);
      for (const text of shown) expect(answer.startsWith(text)).toBe(true);
      expect(shown).toEqual(shown.toSorted((a, b) => a.length - b.length));
    }

    it('seven tabs share one session and one stream over HTTP/1.1, and each can send', async () => {
      const visitor = await newVisitor('pace:20');
      const tabs: Page[] = [];
      for (let tab = 0; tab < 7; tab++) tabs.push(await visitor.openTab());
      for (const tab of tabs) await untilOpen(tab);

      for (const from of [tabs[6]!, tabs[0]!]) {
        const question = newQuestion();
        await send(from, question);
        for (const tab of tabs) {
          await untilSaid(tab, question);
          await untilSaid(tab, answerTo(question));
        }
      }

      const [first, ...others] = await Promise.all(tabs.map(said));
      for (const other of others) expect(other).toEqual(first);
      expect(visitor.streams()).toHaveLength(1);
      expect(visitor.count('POST sessions')).toBe(1);
    });

    it('another tab goes on with the stream when the one that had it is closed in the middle of an answer', async () => {
      const visitor = await newVisitor('held');
      const tabs = [await visitor.openTab(), await visitor.openTab(), await visitor.openTab()];
      for (const tab of tabs) await untilOpen(tab);
      const question = newQuestion();
      await send(tabs[1]!, question);
      for (const tab of tabs) await untilText(tab);
      const [leader] = visitor.streams();
      const others = tabs.filter((tab) => tab !== leader);

      await leader!.close();
      await waitFor('another stream', () => visitor.streams().length === 2);
      (await provider.callAbout(question)).release();

      for (const tab of others) {
        await untilSaid(tab, answerTo(question));
        expect(await said(tab)).toEqual(['Hello!', question, answerTo(question)]);
        await expectGrown(tab, answerTo(question));
      }
    });

    it('a tab that is opened in the middle of an answer shows what the others show', async () => {
      const visitor = await newVisitor('held');
      const first = await visitor.openTab();
      const question = newQuestion();
      await send(first, question);
      await untilText(first);

      const second = await visitor.openTab();

      await waitFor('the same text in both', async () => {
        const { reply } = await look(second);
        return reply?.text.endsWith('naïve') && reply.text === (await look(first)).reply?.text;
      });
      expect(await said(second)).toEqual(await said(first));
      (await provider.callAbout(question)).release();
      for (const tab of [first, second]) await untilSaid(tab, answerTo(question));
      await expectGrown(second, answerTo(question));
    });

    it('tabs have a stream each where there are no Web Locks', async () => {
      const visitor = await newVisitor('ok', { hasLocks: false });
      const first = await visitor.openTab();
      await untilOpen(first);
      const second = await visitor.openTab();
      await untilOpen(second);
      const question = newQuestion();

      await send(second, question);

      for (const tab of [first, second]) await untilSaid(tab, answerTo(question));
      expect(new Set(visitor.streams())).toEqual(new Set([first, second]));
      expect(visitor.count('POST sessions')).toBe(1);
    });

    it('goes on after it was offline, at once, and sends what was written meanwhile', async () => {
      const visitor = await newVisitor();
      const tab = await visitor.openTab();
      await untilOpen(tab);
      await visitor.context.setOffline(true);
      const question = newQuestion();
      await send(tab, question);
      await waitFor('a failure', async () => visitor.count('POST messages') > 1);

      await visitor.context.setOffline(false);

      await untilSaid(tab, answerTo(question));
      expect(await said(tab)).toEqual(['Hello!', question, answerTo(question)]);
    });

    it('shows the same after a reload, in the same session', async () => {
      const visitor = await newVisitor();
      const tab = await visitor.openTab();
      const question = newQuestion();
      await send(tab, question);
      await untilSaid(tab, answerTo(question));
      const before = await said(tab);

      await tab.reload();

      await untilSaid(tab, answerTo(question));
      expect(await said(tab)).toEqual(before);
      expect(visitor.count('POST sessions')).toBe(1);
    });

    it('all tabs end with their session, and go on with another when one of them sends', async () => {
      const visitor = await newVisitor();
      const tabs = [await visitor.openTab(), await visitor.openTab()];
      for (const tab of tabs) await untilOpen(tab);
      const [first, second] = [newQuestion(), newQuestion()];
      await send(tabs[0]!, first);
      for (const tab of tabs) await untilSaid(tab, answerTo(first));
      const [row] = await stack.database.query<{ id: string }>(
        'select chat_session_id as id from messages where content = $1',
        [first],
      );
      await stack.owner().delete(`/v1/sessions/${row!.id}`);
      for (const tab of tabs) {
        await waitFor('the end', async () => (await look(tab)).status === 'ended');
        expect(await said(tab)).toEqual(['Hello!', first, answerTo(first)]);
      }

      await send(tabs[1]!, second);

      for (const tab of tabs) {
        await untilSaid(tab, answerTo(second));
        expect(await said(tab)).toEqual([
          'Hello!',
          first,
          answerTo(first),
          'Hello!',
          second,
          answerTo(second),
        ]);
      }
    });

    it('React shows it, opens one session in strict mode, and leaves the stream with its component', async () => {
      const visitor = await newVisitor('pace:20', { page: 'react' });
      const tab = await visitor.openTab();
      await untilOpen(tab);
      const question = newQuestion();

      await send(tab, question);

      await untilSaid(tab, answerTo(question));
      expect(await tab.getByRole('listitem').allInnerTexts()).toEqual([
        'Hello!',
        question,
        answerTo(question),
      ]);
      await expectGrown(tab, answerTo(question));
      expect(visitor.count('POST sessions')).toBe(1);
      expect(visitor.streams()).toHaveLength(1);
      const left = tab.waitForEvent('requestfailed', (request) => request.url().includes('/events'));
      await tab.evaluate(() => globalThis.leave());
      await left;
    });
  },
);
