import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser, BrowserContext, BrowserContextOptions, Frame, Locator, Page } from 'playwright-core';
import { ApiClient, type Json } from '../support/api-client.js';
import { startBrowser } from '../support/browser.js';
import { newQuestion } from '../support/conversations.js';
import { vouch } from '../support/identity.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** The guests' page in a real browser, with the real api and worker behind it. With SHOTS=directory it takes pictures. */

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PHONE = { width: 320, height: 640 };
const GREETING = 'Hello{name}! Ask me about our bread.';

interface Rule {
  id: string;
  nodes: { html: string }[];
}

(globalThis.CHROMIUM === null && process.env['CI'] !== 'true' ? describe.skip : describe)(
  'the page of a chatbot',
  () => {
    let provider: RawProvider;
    let stack: Stack;
    let browser: Browser;
    /** Another site, whose pages embed this one. */
    let site: Server;
    let siteUrl: string;
    let api: string;
    beforeAll(async () => {
      provider = await startRawProvider();
      stack = await Stack.start({ env: { OPENAI_BASE_URL: provider.baseUrl, DRAIN_TIMEOUT_MS: '0' } });
      api = stack.apis[0]!.url;
      browser = await startBrowser();
      site = createServer((request, response) => {
        const { pathname, searchParams } = new URL(request.url!, 'http://any');
        const [page, identity] = ['page', 'identity'].map((name) => searchParams.get(name) ?? '');
        response.setHeader('content-type', 'text/html');
        if (pathname === '/silent') response.setHeader('referrer-policy', 'no-referrer');
        response.end(
          pathname === '/shop'
            ? `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Shop</title>
          <meta name="color-scheme" content="light dark">
          <main style="font: 16px/1.6 Georgia, serif; max-width: 640px; margin: 48px auto; padding: 0 16px">
          <h1>Bread by post</h1><p>${'We bake in the night and send in the morning. '.repeat(12)}</p></main>
          <script>window.Assistly = []; if ('${identity}') Assistly.push(['identify', '${identity}'])</script>
          <script src="${api}/widget.js" data-chatbot="${page}" data-color="#0a7f5a" async></script>`
            : `<!doctype html><title>Shop</title><script>
          window.heard = [];
          addEventListener('message', ({ data }) => heard.push(data));
          window.tell = (message) => frames[0].postMessage(message, '*');
          </script><iframe src="${page}" width="400" height="640"></iframe>`,
        );
      });
      site.listen(0, '127.0.0.1');
      await once(site, 'listening');
      siteUrl = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
    });
    afterAll(async () => {
      await browser?.close();
      site?.closeAllConnections();
      site?.close();
      await stack?.stop();
      await provider?.close();
    });
    afterEach(async () => {
      for (const context of browser.contexts()) await context.close();
    });

    /** A visitor of a chatbot whose model makes the provider behave in a certain way. */
    async function newVisitor(model = 'ok', settings: object = {}, options: BrowserContextOptions = {}) {
      const chatbot: Json = await stack.owner().createChatbot({
        name: 'Bakery',
        greeting: GREETING,
        model,
        ...settings,
      });
      const context: BrowserContext = await browser.newContext({
        viewport: { width: 1_000, height: 720 },
        reducedMotion: 'reduce',
        ...options,
      });
      const complaints: string[] = [];
      const open = async (query = ''): Promise<Page> => {
        const tab = await context.newPage();
        tab.setDefaultTimeout(20_000);
        tab.on('pageerror', (error) => complaints.push(error.message));
        tab.on('console', (message) => {
          if (message.text().includes('Content Security Policy')) complaints.push(message.text());
        });
        await tab.goto(`${api}/c/${chatbot.id}${query}`);
        await tab.locator('[role=log]').waitFor();
        return tab;
      };
      return { chatbot, context, open, complaints };
    }

    const field = (tab: Page | Frame): Locator => tab.getByRole('textbox', { name: 'Message', exact: true });
    const button = (tab: Page | Frame, name: string): Locator =>
      tab.getByRole('button', { name, exact: true });
    const log = (tab: Page | Frame): Locator => tab.getByRole('log');
    async function ask(tab: Page | Frame, question = newQuestion()): Promise<string> {
      await field(tab).fill(question);
      await field(tab).press('Enter');
      return question;
    }
    const answered = (tab: Page | Frame, question: string): Promise<void> =>
      log(tab).getByText(answerTo(question)).waitFor();
    /** What is shown of the conversation, turn by turn. */
    const turns = (tab: Page | Frame): Promise<string[]> =>
      tab.locator('.bubble, .answer').evaluateAll((all) => all.map((one) => one.textContent ?? ''));
    const session = async (chatbotId: string): Promise<Json[]> =>
      (await stack.owner().get(`/v1/chatbots/${chatbotId}/sessions`)).body.data;

    async function shoot(tab: Page, name: string): Promise<void> {
      const directory = process.env['SHOTS'];
      if (directory === undefined) return;
      mkdirSync(directory, { recursive: true });
      await tab.screenshot({ path: join(directory, `${name}.png`) });
    }

    /** What axe-core finds, and whether anything is wider than the page. */
    async function expectGood(tab: Page, name: string): Promise<void> {
      await shoot(tab, name);
      await tab.evaluate(axe);
      const { violations } = (await tab.evaluate('axe.run()')) as { violations: Rule[] };
      expect(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)])).toEqual([]);
      expect(await tab.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
    }

    it('shows its first text without any script, and opens no session for those who only look', async () => {
      const { chatbot, context } = await newVisitor('ok', {}, { javaScriptEnabled: false, locale: 'fr-FR' });
      const tab = await context.newPage();
      await tab.goto(`${api}/c/${chatbot.id}`);

      expect(await tab.title()).toBe('Bakery');
      expect(await tab.getByRole('heading', { level: 1 }).textContent()).toBe('Bakery');
      expect(await tab.locator('.answer').textContent()).toBe('Hello! Ask me about our bread.');
      expect(await tab.locator('textarea').getAttribute('placeholder')).toBe('Écrire un message');
      await shoot(tab, 'before-script');
      expect(await session(chatbot.id)).toEqual([]);
    });

    it('keeps what was typed before its script ran', async () => {
      const { chatbot, context } = await newVisitor();
      const tab = await context.newPage();
      const { promise: mayLoad, resolve: load } = Promise.withResolvers<void>();
      await tab.route('**/main-*.js', async (route) => {
        await mayLoad;
        await route.continue();
      });
      await tab.goto(`${api}/c/${chatbot.id}`, { waitUntil: 'commit' });
      await tab.locator('textarea').pressSequentially('Do you bake');
      await tab.keyboard.press('ArrowLeft');

      load();
      await tab.getByRole('log').waitFor();
      await tab.keyboard.type('!!');

      expect(await field(tab).inputValue()).toBe('Do you bak!!e');
    });

    it('sends what was sent before it knew its chatbot, also after a reload', async () => {
      const { open, context, chatbot } = await newVisitor();
      const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
      await context.route('**/public', async (route) => {
        await mayAnswer;
        await route.continue().catch(() => undefined); // of the page before the reload
      });
      const tab = await open();
      const question = await ask(tab);
      await log(tab).getByText(question).waitFor();
      await tab.reload();
      await log(tab).getByText(question).waitFor();

      answer();

      await answered(tab, question);
      expect(await turns(tab)).toEqual(['Hello! Ask me about our bread.', question, answerTo(question)]);
      expect(await session(chatbot.id)).toHaveLength(1);
    });

    it('shows an answer as it is written, reads it aloud by sentences, and is free of what axe-core finds', async () => {
      const { open, complaints, chatbot } = await newVisitor('held', {
        appearance: { suggestions: ['When are you open?', 'Is the rye bread vegan?'], title: 'The bakery' },
      });
      const tab = await open();
      await button(tab, 'When are you open?').waitFor();
      await expectGood(tab, 'empty-light');

      await button(tab, 'When are you open?').click();
      await log(tab).getByText('one, two, three').waitFor();
      expect(await button(tab, 'When are you open?').count()).toBe(0);
      await expectGood(tab, 'streaming-light');
      (await provider.callAbout('When are you open?')).release();
      await answered(tab, 'When are you open?');
      await button(tab, 'Another answer').waitFor();
      await expectGood(tab, 'answered-light');

      expect(await turns(tab)).toEqual([
        'Hello! Ask me about our bread.',
        'When are you open?',
        answerTo('When are you open?'),
      ]);
      const spoken = await tab.locator('.list > [aria-live=polite] > p').allTextContents();
      expect(spoken[0]).toBe('The answer is being written.');
      expect(spoken.slice(1).join(' ').replaceAll('  ', ' ')).toBe(answerTo('When are you open?'));
      expect(spoken.length).toBeLessThan(6);
      expect(await session(chatbot.id)).toHaveLength(1);
      expect(complaints).toEqual([]);
    });

    it('shows Markdown as elements, and HTML as text', async () => {
      const { open, complaints } = await newVisitor('markdown', { greeting: null });
      const tab = await open();
      await ask(tab, 'What do you bake?');
      await button(tab, 'Another answer').waitFor();

      expect(await tab.locator('.answer table td').first().textContent()).toBe('Country rye');
      expect(await tab.locator('.answer').getByRole('link').getAttribute('rel')).toBe(
        'noopener noreferrer nofollow',
      );
      await tab.locator('.answer').getByText('<script>alert(1)</script>').waitFor();
      expect(await tab.locator('.answer script').count()).toBe(0);
      await expectGood(tab, 'markdown-light');
      await tab.emulateMedia({ colorScheme: 'dark' });
      await expectGood(tab, 'markdown-dark');
      await tab.setViewportSize(PHONE);
      await expectGood(tab, 'markdown-phone-dark');
      await tab.emulateMedia({ colorScheme: 'light' });
      await expectGood(tab, 'markdown-phone-light');
      expect(complaints).toEqual([]);
    });

    it('stops an answer, keeps what there is, and asks again', async () => {
      const { open } = await newVisitor('held');
      const tab = await open();
      const question = await ask(tab);
      await log(tab).getByText('naïve').waitFor();
      await button(tab, 'Stop').click();

      await tab.getByText('Stopped.').first().waitFor();
      await button(tab, 'Send').waitFor();
      await expectGood(tab, 'stopped');
      await button(tab, 'Try again').click();

      await answered(tab, question);
    });

    it('gives another answer instead of one', async () => {
      const { open } = await newVisitor();
      const tab = await open();
      const question = await ask(tab);
      await answered(tab, question);
      await button(tab, 'Another answer').click();

      await waitFor(
        'another call',
        () => provider.calls.filter((call) => call.question === question).length === 2,
      );
      await button(tab, 'Another answer').waitFor();
      expect(await turns(tab)).toEqual(['Hello! Ask me about our bread.', question, answerTo(question)]);
    });

    it('goes on after a reload in the middle of an answer, and in a second tab', async () => {
      const { open, chatbot } = await newVisitor('held');
      const tab = await open();
      const question = await ask(tab);
      await log(tab).getByText('naïve').waitFor();
      await field(tab).fill('A draft');
      await tab.waitForTimeout(400); // it is kept when nothing was typed for a moment

      await tab.reload();
      await log(tab).getByText('naïve').waitFor();
      const other = await open();
      await log(other).getByText('naïve').waitFor();
      (await provider.callAbout(question)).release();

      for (const each of [tab, other]) {
        await answered(each, question);
        expect(await turns(each)).toEqual(['Hello! Ask me about our bread.', question, answerTo(question)]);
      }
      expect(await field(tab).inputValue()).toBe('A draft');
      expect(await session(chatbot.id)).toHaveLength(1);
    });

    it('says that an answer failed, and tries again', async () => {
      const { open } = await newVisitor('fail:400:1');
      const tab = await open();
      const question = await ask(tab);
      await log(tab).getByText('That did not work.').waitFor();
      await expectGood(tab, 'failed');

      await button(tab, 'Try again').click();

      await answered(tab, question);
    });

    it('says that an answer is delayed, until it comes', async () => {
      const { open } = await newVisitor('busy:4');
      const tab = await open();
      await answered(tab, await ask(tab)); // from now on the stream is open before the delay begins
      const question = await ask(tab);
      await log(tab).getByText('The answer is delayed.').waitFor();
      await expectGood(tab, 'delayed');

      await answered(tab, question);
      expect(await log(tab).getByText('The answer is delayed.').count()).toBe(0);
    });

    it('keeps what is written offline, and sends it when the network is back', async () => {
      const { open, context } = await newVisitor();
      const tab = await open();
      const first = await ask(tab);
      await answered(tab, first);
      await context.setOffline(true);
      await tab.getByText('No connection.').waitFor();
      const second = await ask(tab);
      await log(tab).getByText('Sending …').waitFor();
      await expectGood(tab, 'offline');

      await context.setOffline(false);

      await answered(tab, second);
      expect(await tab.getByText('No connection.').count()).toBe(0);
      expect((await turns(tab)).filter((text) => text === second)).toHaveLength(1);
    });

    it('shows what was not sent, also after a reload, and sends it with one click', async () => {
      const { open, chatbot } = await newVisitor();
      const tab = await open();
      await answered(tab, await ask(tab));
      await stack.owner().patch(`/v1/chatbots/${chatbot.id}`, { isEnabled: false });
      const question = await ask(tab);
      await log(tab).getByText('Not sent. This chat is switched off').waitFor();
      await expectGood(tab, 'not-sent');
      await tab.reload();
      await tab.locator('.bottom').getByText('This chat is switched off').waitFor();
      await expectGood(tab, 'disabled');
      await stack.owner().patch(`/v1/chatbots/${chatbot.id}`, { isEnabled: true });
      await tab.reload();

      await button(tab, 'Try again').click();

      await answered(tab, question);
    });

    it('asks who is writing where its chatbot wants to know', async () => {
      const { open, chatbot } = await newVisitor('ok', { appearance: { askFor: 'required' } });
      const tab = await open();
      const form = tab.getByRole('form', { name: 'Who is writing?' });
      await form.waitFor();
      await expectGood(tab, 'form');
      await button(tab, 'Begin').click();
      expect(await form.count()).toBe(1); // nothing was filled in
      expect(await button(tab, 'Skip').count()).toBe(0);
      const other = await open();

      await tab.getByLabel('Name').fill('Ada');
      await tab.getByLabel('E-mail').fill('ada@example.com');
      await tab.keyboard.press('Enter');

      const question = await ask(tab);
      await answered(tab, question);
      await answered(other, question); // which asks no more
      const [row] = await session(chatbot.id);
      expect(row.guest).toMatchObject({ name: 'Ada', email: 'ada@example.com' });
      expect((await turns(tab))[0]).toBe('HelloAda! Ask me about our bread.');
    });

    it('lets a guest skip the form where it is optional', async () => {
      const { open, chatbot } = await newVisitor('ok', { appearance: { askFor: 'optional' } });
      const tab = await open();
      await button(tab, 'Skip').click();
      await answered(tab, await ask(tab));

      expect((await session(chatbot.id))[0].guest).toBeNull();
      await tab.reload();
      await field(tab).waitFor();
    });

    it('begins a new conversation, in every tab', async () => {
      const { open, chatbot } = await newVisitor();
      const tab = await open();
      const first = await ask(tab);
      await answered(tab, first);
      const other = await open();
      await answered(other, first);

      await button(tab, 'Menu').click();
      await expectGood(tab, 'menu');
      await button(tab, 'New conversation').click();

      for (const each of [tab, other])
        await waitFor('an empty page', async () => (await turns(each)).length === 1);
      const second = await ask(other);
      for (const each of [tab, other]) {
        await answered(each, second);
        expect(await turns(each)).toEqual(['Hello! Ask me about our bread.', second, answerTo(second)]);
      }
      expect(await session(chatbot.id)).toHaveLength(2);
    });

    it('can be used by keyboard alone', async () => {
      const { open } = await newVisitor('ok', { appearance: { suggestions: ['Are you open?'] } });
      const tab = await open();
      await button(tab, 'Are you open?').waitFor();
      const focused = (): Promise<string> =>
        tab.evaluate(
          `(({ ariaLabel, textContent, placeholder }) => ariaLabel || textContent || placeholder)(document.activeElement)`,
        );
      const order: string[] = [];
      for (let step = 0; step < 5; step++) {
        await tab.keyboard.press('Tab');
        order.push(await focused());
      }
      expect(order).toEqual(['Menu', 'Conversation', 'Are you open?', 'Message', 'Send']);

      await tab.keyboard.press('Shift+Tab');
      await tab.keyboard.type('Line one');
      await tab.keyboard.press('Shift+Enter');
      await tab.keyboard.type('line two');
      expect(await field(tab).inputValue()).toBe('Line one\nline two');
      await tab.keyboard.press('Enter');
      expect(await field(tab).inputValue()).toBe('');
      expect(await focused()).toBe('Message');
      await tab.getByText('Line one\nline two', { exact: true }).first().waitFor();
      await button(tab, 'Another answer').waitFor();

      await button(tab, 'Menu').focus();
      await tab.keyboard.press('Enter');
      await waitFor('the focus in the menu', async () => (await focused()) === 'New conversation');
      await tab.keyboard.press('Escape');
      await waitFor('the focus back', async () => (await focused()) === 'Menu');
      expect(await button(tab, 'New conversation').count()).toBe(0);

      await button(tab, 'Another answer').focus();
      await tab.keyboard.press('Enter');
      await waitFor('the focus in the field', async () => (await focused()) === 'Message');
      await shoot(tab, 'focus');
    });

    it('stays where it is read while text comes, and leads back to the end', async () => {
      const { open } = await newVisitor('held', {}, { viewport: { width: 480, height: 400 } });
      const tab = await open();
      for (let turn = 0; turn < 3; turn++) {
        const question = await ask(tab);
        (await provider.callAbout(question)).release();
        await answered(tab, question);
      }
      const question = await ask(tab);
      await log(tab).getByText('naïve').last().waitFor();
      await log(tab).evaluate((list) => list.scrollTo(0, 40));
      (await provider.callAbout(question)).release();
      await answered(tab, question);

      expect(await log(tab).evaluate((list) => list.scrollTop)).toBe(40);
      await expectGood(tab, 'new-text');
      await button(tab, 'New text').click();
      expect(
        await log(tab).evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight),
      ).toBeLessThan(2);
      expect(await button(tab, 'New text').count()).toBe(0);
    });

    it('speaks the browser’s language, from right to left too, in the dark, on the narrowest phone', async () => {
      const { open, complaints } = await newVisitor(
        'ok',
        {
          appearance: { color: '#b00040', suggestions: ['متى تفتحون؟', 'When are you open?'] },
          greeting: 'مرحبا',
        },
        { locale: 'ar', colorScheme: 'dark', viewport: PHONE, hasTouch: true, isMobile: true },
      );
      const tab = await open();
      expect(
        await tab.evaluate('[document.documentElement.lang, getComputedStyle(document.body).direction]'),
      ).toEqual(['ar', 'rtl']);
      await tab.getByRole('button', { name: 'متى تفتحون؟' }).waitFor();
      await expectGood(tab, 'empty-phone-dark-rtl');
      await tab.getByRole('button', { name: 'متى تفتحون؟' }).click();
      await answered(tab, 'متى تفتحون؟');
      await tab.getByRole('button', { name: 'إجابة أخرى' }).waitFor();
      await expectGood(tab, 'answered-phone-dark-rtl');
      expect(complaints).toEqual([]);
    });

    it('is readable in any accent, light and dark', async () => {
      for (const color of ['#ffe600', '#111111', '#f5f5f5']) {
        const { open } = await newVisitor('ok', { appearance: { color } });
        const tab = await open();
        await answered(tab, await ask(tab));
        await expectGood(tab, `accent-${color.slice(1)}-light`);
        await tab.emulateMedia({ colorScheme: 'dark' });
        await expectGood(tab, `accent-${color.slice(1)}-dark`);
      }
    });

    it('says in a sentence that there is no such chat, or that it is only for those who have signed in', async () => {
      const { open, context } = await newVisitor('ok', { requireIdentity: true });
      const tab = await open();
      await tab.locator('.bottom').getByText('Please sign in').waitFor();
      expect(await field(tab).count()).toBe(0);
      await expectGood(tab, 'needs-identity');

      const missing = await context.newPage();
      const answer = await missing.goto(`${api}/c/01999999-9999-7999-8999-999999999999`);
      expect(answer!.status()).toBe(404);
      await missing.getByText('There is no chat at this address.').waitFor();
      await expectGood(missing, 'not-found');
    });

    describe('embedded by another page', () => {
      async function embed(model = 'ok', settings: object = {}, path = '/') {
        const visitor = await newVisitor(model, settings);
        const host = await visitor.context.newPage();
        host.setDefaultTimeout(20_000);
        const page = encodeURIComponent(`${api}/c/${visitor.chatbot.id}?embed=1`);
        await host.goto(`${siteUrl}${path}?page=${page}`);
        const heard = (): Promise<Json[]> => host.evaluate('heard');
        const hears = (type: string): Promise<Json> =>
          waitFor(`"${type}"`, async () => (await heard()).findLast((message) => message.type === type));
        const tell = (message: object): Promise<unknown> => host.evaluate(`tell(${JSON.stringify(message)})`);
        return { ...visitor, host, frame: () => host.frames()[1]!, heard, hears, tell };
      }

      it('tells that page what happens, and no text', async () => {
        const { host, frame, hears, heard, tell } = await embed();
        expect(await hears('ready')).toEqual({ assistly: 1, type: 'ready' });
        await tell({ assistly: 1, type: 'opened' });
        const question = await ask(frame());
        await answered(frame(), question);
        expect(await hears('session')).toEqual({ assistly: 1, type: 'session', id: expect.any(String) });
        await waitFor('both messages', async () => {
          const senders = (await heard()).flatMap(({ type, sender }) => (type === 'message' ? [sender] : []));
          return senders.join() === 'user,ai';
        });
        expect((await heard()).some(({ type }) => type === 'unread')).toBe(false);

        await tell({ assistly: 1, type: 'closed' });
        const second = await ask(frame());
        await answered(frame(), second);
        expect(await hears('unread')).toEqual({ assistly: 1, type: 'unread', count: 1 });

        await field(frame()).press('Escape');
        expect(await hears('close')).toEqual({ assistly: 1, type: 'close' });
        await shoot(host, 'embedded');
        expect(JSON.stringify(await heard())).not.toMatch(/Question|Answer|token/);
        expect((await heard()).every(({ assistly }) => assistly === 1)).toBe(true);
      });

      it('goes on as the person whom the owner vouches for, and comes back to nobody', async () => {
        const { chatbot, frame, hears, tell, complaints } = await embed('ok', {});
        const { secret } = (await stack.owner().post(`/v1/chatbots/${chatbot.id}/identity-secret`)).body;
        await hears('ready');
        const anonymous = await ask(frame());
        await answered(frame(), anonymous);

        await tell({ assistly: 1, type: 'identify', token: await vouch(secret, chatbot.id, { sub: 'ada' }) });
        await waitFor('an empty page', async () => (await turns(frame())).length === 1);
        const own = await ask(frame());
        await answered(frame(), own);
        const sessions = await session(chatbot.id);
        expect(sessions.map(({ guest }) => guest?.externalId ?? null)).toEqual(['ada', null]);

        // The same person elsewhere finds the conversation again.
        const elsewhere = await embedAgain(chatbot.id);
        await elsewhere.tell({ type: 'identify', token: await vouch(secret, chatbot.id, { sub: 'ada' }) });
        await answered(elsewhere.frame(), own);
        await button(elsewhere.frame(), 'Menu').click();
        await button(elsewhere.frame(), 'New conversation').click();
        await answered(elsewhere.frame(), await ask(elsewhere.frame()));
        await button(elsewhere.frame(), 'Menu').click();
        await elsewhere.frame().getByText('Earlier conversations').waitFor();
        await shoot(elsewhere.host, 'verified-menu');
        await elsewhere.frame().locator('.menu-list button').last().click();
        await answered(elsewhere.frame(), own);

        await tell({ assistly: 1, type: 'logout' });
        await waitFor('an empty page', async () => (await turns(frame())).length === 1);
        const after = await ask(frame());
        await answered(frame(), after);
        expect(await session(chatbot.id)).toHaveLength(4);
        await tell({ assistly: 1, type: 'reset' });
        await waitFor('an empty page', async () => (await turns(frame())).length === 1);
        expect(complaints).toEqual([]);
      });

      async function embedAgain(chatbotId: string) {
        const context = await browser.newContext();
        const host = await context.newPage();
        await host.goto(`${siteUrl}/?page=${encodeURIComponent(`${api}/c/${chatbotId}?embed=1`)}`);
        await waitFor('"ready"', async () =>
          (await host.evaluate<Json[]>('heard')).some(({ type }) => type === 'ready'),
        );
        return {
          host,
          frame: () => host.frames()[1]!,
          tell: (message: object) => host.evaluate(`tell(${JSON.stringify(message)})`),
        };
      }

      it('asks that page for who it is, where only the vouched for may chat', async () => {
        const { chatbot, frame, hears, tell } = await embed('ok', { requireIdentity: true });
        const { secret } = (await stack.owner().post(`/v1/chatbots/${chatbot.id}/identity-secret`)).body;
        await hears('identityRequired');
        await tell({ type: 'identify', token: await vouch(secret, chatbot.id) });

        await field(frame()).waitFor();
        await answered(frame(), await ask(frame()));
      });

      it('is shown by the browser on those sites alone that its chatbot allows', async () => {
        const refused = await embed('ok', { allowedOrigins: ['https://shop.example'] });
        await refused.frame().getByText('This chat is not available on this website.').waitFor();
        expect(await refused.frame().locator('script').count()).toBe(0);
        // Whose address a site keeps to itself, the browser alone can tell.
        const silent = await embed('ok', { allowedOrigins: ['https://shop.example'] }, '/silent');
        await waitFor('the refusal', async () =>
          silent.host.frames().some((frame) => frame.url().startsWith('chrome-error:')),
        );
        const allowed = await embed('ok', { allowedOrigins: [siteUrl] });
        await allowed.hears('ready');
        await answered(allowed.frame(), await ask(allowed.frame()));
      });
    });

    /** The widget has tests of its own, with a stand-in for this page: integration/widget-in-browser. */
    describe('in the widget, on another site', () => {
      const PHONE_375 = { viewport: { width: 375, height: 812 }, isMobile: true, hasTouch: true };
      const devices: [name: string, options: BrowserContextOptions][] = [
        ['desktop-light', { viewport: { width: 1280, height: 800 } }],
        ['desktop-dark', { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' }],
        ['phone-light', PHONE_375],
        ['phone-dark', { ...PHONE_375, colorScheme: 'dark' }],
      ];

      async function visitShop(allowedOrigin: string, options: BrowserContextOptions, model = 'held') {
        const visitor = await newVisitor(
          model,
          {
            allowedOrigins: [allowedOrigin],
            appearance: { color: '#0a7f5a', suggestions: ['When are you open?', 'Is the rye bread vegan?'] },
          },
          { locale: 'en', ...options },
        );
        const shop = await visitor.context.newPage();
        shop.setDefaultTimeout(20_000);
        shop.on('pageerror', (error) => visitor.complaints.push(error.message));
        await shop.goto(`${shopUrl()}/shop?page=${visitor.chatbot.id}`);
        const launcher = shop.getByRole('button', { name: 'Chat' });
        const panel = shop.getByRole('dialog', { name: 'Chat' });
        const frame = () => shop.frames()[1]!;
        return { ...visitor, shop, launcher, panel, frame };
      }
      /** Another site than the api's, to browsers too, and not only another origin. */
      const shopUrl = (): string => siteUrl.replace('127.0.0.1', 'localhost');

      it.each(devices)(
        'opens by its button, is typed into at once, and answers: %s',
        async (name, options) => {
          const { shop, launcher, panel, frame, complaints, chatbot } = await visitShop(shopUrl(), options);
          await launcher.waitFor();
          await shoot(shop, `widget-${name}-closed`);
          await launcher.click();
          await button(frame(), 'When are you open?').waitFor();
          await waitFor('the focus in the field', () =>
            frame().evaluate(`document.hasFocus() && document.activeElement.matches('textarea')`),
          );
          await shoot(shop, `widget-${name}-open`);

          const question = newQuestion();
          await shop.keyboard.type(question);
          await shop.keyboard.press('Enter');
          await log(frame()).getByText('naïve').waitFor();
          await shoot(shop, `widget-${name}-streaming`);
          (await provider.callAbout(question)).release();
          await answered(frame(), question);
          await button(frame(), 'Another answer').waitFor();
          await shoot(shop, `widget-${name}-answered`);
          await button(frame(), 'Close').click();
          await panel.waitFor({ state: 'hidden' });

          expect(await session(chatbot.id)).toHaveLength(1);
          expect(complaints).toEqual([]);
        },
      );

      it('finds a known guest’s conversation again where the browser lets frames of other sites store nothing', async () => {
        const { shop, launcher, frame, complaints, chatbot } = await visitShop(shopUrl(), {}, 'ok');
        const { secret } = (await stack.owner().post(`/v1/chatbots/${chatbot.id}/identity-secret`)).body;
        const identity = await vouch(secret, chatbot.id);
        const visit = async (): Promise<void> => {
          await shop.goto(`${shopUrl()}/shop?page=${chatbot.id}&identity=${identity}`);
          const isKnown = shop.waitForRequest((request) => request.url().includes('/v1/guest/sessions?'));
          await launcher.click();
          await isKnown;
        };
        await visit();
        expect(
          await frame().evaluate(
            `(() => { try { return localStorage.length } catch ({ name }) { return name } })()`,
          ),
        ).toBe('SecurityError');
        const first = await ask(frame());
        await answered(frame(), first);

        await visit();
        await answered(frame(), first);
        const second = await ask(frame());
        await answered(frame(), second);

        expect((await turns(frame())).slice(1)).toEqual([first, answerTo(first), second, answerTo(second)]);
        expect(await session(chatbot.id)).toHaveLength(1);
        expect(complaints).toEqual([]);
      });

      it('keeps what a known guest sends until their conversation is found, and sends it there', async () => {
        const { shop, context, launcher, frame, chatbot } = await visitShop(shopUrl(), {}, 'ok');
        const { secret } = (await stack.owner().post(`/v1/chatbots/${chatbot.id}/identity-secret`)).body;
        const identity = await vouch(secret, chatbot.id);
        const elsewhere = await new ApiClient(api, identity).openSession(chatbot.id);
        const first = newQuestion();
        const { reply } = await elsewhere.guest.postMessage(elsewhere.session.id, first);
        await elsewhere.guest.finalReply(reply.id);
        const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
        await context.route('**/v1/guest/sessions?*', async (route) => {
          await mayAnswer;
          await route.continue();
        });
        await shop.goto(`${shopUrl()}/shop?page=${chatbot.id}&identity=${identity}`);
        const isAsked = shop.waitForRequest((request) => request.url().includes('/v1/guest/sessions?'));
        await launcher.click();
        await isAsked;
        await button(frame(), 'When are you open?').waitFor(); // the page knows its chatbot
        const second = await ask(frame());
        await log(frame()).getByText('Sending …').waitFor();

        answer();

        await answered(frame(), second);
        expect((await turns(frame())).slice(1)).toEqual([first, answerTo(first), second, answerTo(second)]);
        expect(await session(chatbot.id)).toHaveLength(1);
      });

      it.each(devices)('says in a sentence that it is not for this site: %s', async (name, options) => {
        const { shop, launcher, panel, frame, chatbot } = await visitShop('https://shop.example', options);
        await launcher.click();

        await frame().getByText('This chat is not available on this website.').waitFor();
        await shoot(shop, `widget-${name}-refused`);
        expect(await panel.isVisible()).toBe(true);
        await launcher.click();
        await panel.waitFor({ state: 'hidden' });
        expect(await session(chatbot.id)).toEqual([]);
      });
    });
  },
);
