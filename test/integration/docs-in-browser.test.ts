import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { startBrowser } from '../support/browser.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** The documentation in a real browser, with the real api and worker behind it. With SHOTS=directory it takes pictures. */

jest.setTimeout(180_000); // axe-core reads a long page, on a busy machine too

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const DESKTOP = { width: 1_280, height: 800 };
const PHONE = { width: 320, height: 640 };

interface Rule {
  id: string;
  nodes: { html: string }[];
}

(globalThis.CHROMIUM === null && process.env['CI'] !== 'true' ? describe.skip : describe)(
  'the documentation',
  () => {
    let stack: Stack;
    let browser: Browser;
    let api: string;
    beforeAll(async () => {
      stack = await Stack.start();
      api = stack.apis[0]!.url;
      browser = await startBrowser();
    });
    afterAll(async () => {
      await browser?.close();
      await stack?.stop();
    });
    afterEach(async () => {
      for (const context of browser.contexts()) await context.close();
    });

    /** Opens the page, and collects what the browser complains of and whom it asks. */
    async function open(hash = '', options: BrowserContextOptions = {}) {
      const context = await browser.newContext({ viewport: DESKTOP, reducedMotion: 'reduce', ...options });
      await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: api });
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      const complaints: string[] = [];
      const hosts = new Set<string>();
      page.on('pageerror', (error) => complaints.push(error.message));
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      page.on('request', (request) => hosts.add(new URL(request.url()).origin));
      await page.goto(`${api}/docs${hash}`);
      await page.locator('.opblock').first().waitFor();
      return { page, complaints, hosts };
    }

    const ownerField = (page: Page) => page.getByLabel('Owner token');
    const operation = (page: Page, id: string) => page.locator(`.opblock[id$="-${id}"]`);

    async function shoot(page: Page, name: string): Promise<void> {
      const directory = process.env['SHOTS'];
      if (directory === undefined) return;
      mkdirSync(directory, { recursive: true });
      await page.screenshot({ path: join(directory, `docs-${name}.png`) });
    }

    /** What axe-core finds, and whether anything is wider than the page. */
    async function expectGood(page: Page): Promise<void> {
      await page.evaluate(axe);
      const { violations } = (await page.evaluate('axe.run()')) as { violations: Rule[] };
      expect(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)])).toEqual([]);
      expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
    }

    it('has every section and every operation in its contents, and asks no other server', async () => {
      const { page, complaints, hosts } = await open();

      const sections = await page.locator('#guide :is(h2, h3)').evaluateAll((all) => all.map(({ id }) => id));
      const links = await page
        .locator('#contents a')
        .evaluateAll((all) => all.map((link) => link.getAttribute('href')));
      expect(sections).toContain('a-chat-page');
      expect(links).toEqual(expect.arrayContaining(sections.map((id) => `#${id}`)));
      const operations = await page.locator('.opblock').count();
      expect(links.filter((link) => /^#\/[^/]+\/[^/]+$/.test(link ?? ''))).toHaveLength(operations);
      expect(complaints).toEqual([]);
      expect([...hosts]).toEqual([api]);
    });

    it('shows code with the address that it was opened under, in lines that can be copied', async () => {
      const { page } = await open();
      const code = page.locator('figure.code', { hasText: 'const ownerToken' });
      const token = stack.ownerToken();

      expect(await code.textContent()).toContain(`const api = '${api}'`);
      expect(await code.locator('.is-kwd').count()).toBeGreaterThan(3);
      await code.getByRole('link', { name: 'Put in your owner token' }).click();
      await page.keyboard.insertText(` Bearer ${token}\n`);
      await code.getByRole('button', { name: 'Copy' }).click();

      await page.getByText('Copied', { exact: true }).waitFor();
      const copied = await page.evaluate<string>('navigator.clipboard.readText()');
      expect(copied).toContain(
        `const api = '${api}'; // where this page comes from\nconst ownerToken = '${token}';\n`,
      );
      await page.reload();
      expect(await ownerField(page).inputValue()).toContain(token);
    });

    it('leads from the owner token to a streamed reply, without another credential to be copied', async () => {
      const { page, complaints } = await open(`#owner-token=${stack.ownerToken()}`);
      expect(page.url()).toBe(`${api}/docs#try-it-on-this-page`);
      const execute = async (id: string, parameters: Record<string, string> = {}) => {
        await page.locator(`#guide a[href$="/${id}"]`).first().click();
        const block = operation(page, id);
        for (const [name, value] of Object.entries(parameters)) {
          await block.locator(`[data-param-name="${name}"] input`).fill(value);
        }
        const answered = page.waitForResponse((response) => response.url().startsWith(`${api}/v1/`));
        await block.getByRole('button', { name: 'Execute' }).click();
        const response = await answered;
        await block.locator('.live-responses-table .response .response-col_status').waitFor();
        return { block, status: response.status(), headers: response.headers(), body: response };
      };

      const created = await execute('createChatbot');
      expect(created.status).toBe(201);
      const opened = await execute('openSession', { id: (await created.body.json()).id });
      expect(opened.status).toBe(201);
      const { session, token } = await opened.body.json();
      const posted = await execute('postMessage', { id: session.id });
      expect(posted.status).toBe(202);
      const cursor = posted.headers['x-event-cursor']!;
      const { block } = await execute('followSession', { id: session.id, after: cursor });

      await block.locator('.live-responses-table').getByText('reply.completed').waitFor();
      expect(await page.locator('#guide figure.code', { hasText: 'curl -N' }).textContent()).toContain(
        `curl -N "${api}/v1/sessions/${session.id}/events?after=${cursor}" -H "Authorization: Bearer ${token}"`,
      );
      expect(complaints).toEqual([]);
    });

    it('opens at a section and at an operation, and goes back', async () => {
      const { page } = await open('#errors');
      const isAtTop = (id: string) =>
        waitFor(`#${id} at the top`, () =>
          page.evaluate<boolean>(
            `Math.abs(document.getElementById('${id}').getBoundingClientRect().top) < 100`,
          ),
        );
      await isAtTop('errors');

      await page.locator('#contents').getByRole('link', { name: 'GET Read a reply', exact: true }).click();
      await operation(page, 'getReply').locator('.opblock-body').waitFor();
      await isAtTop('operations-Replies-getReply');
      expect(page.url()).toBe(`${api}/docs#/Replies/getReply`);
      await page.goBack();
      await isAtTop('errors');

      const { page: another } = await open('#/AI%20SDK/stopChat');
      await operation(another, 'stopChat').locator('.opblock-body').waitFor();
    });

    it('can be used with a keyboard', async () => {
      const { page } = await open('', { viewport: PHONE });
      const focused = () => page.evaluate<string>('document.activeElement.textContent');

      await page.keyboard.press('Tab');
      expect(await focused()).toBe('Skip to the guide');
      const contents = page.locator('summary', { hasText: 'Contents' });
      await contents.focus();
      await page.keyboard.press('Enter');
      await page
        .locator('#contents')
        .getByRole('link', { name: 'POST Create a chatbot', exact: true })
        .focus();
      await page.keyboard.press('Enter');
      await operation(page, 'createChatbot').locator('.opblock-body').waitFor();
      expect(await page.locator('#contents').isVisible()).toBe(false);
      await waitFor('the focus on the operation', async () => (await focused()).includes('/v1/chatbots'));
      await page.keyboard.press('Enter');
      await operation(page, 'createChatbot').locator('.opblock-body').waitFor({ state: 'detached' });
    });

    // Each colour and each width once: to read the whole page takes axe-core a quarter of a minute.
    it.each([
      ['desktop-light', DESKTOP, 'light'],
      ['phone-dark', PHONE, 'dark'],
    ] as const)(
      'is free of what axe-core finds, and no wider than the page: %s',
      async (name, viewport, colorScheme) => {
        const { page } = await open('', { viewport, colorScheme });
        await shoot(page, `${name}-guide`);
        await ownerField(page).fill(stack.ownerToken());
        await ownerField(page).scrollIntoViewIfNeeded();
        await shoot(page, `${name}-token`);
        await page.locator('a[href="#/Sessions/openSession"]').first().dispatchEvent('click');
        await operation(page, 'openSession').locator('.opblock-body').waitFor();
        await operation(page, 'openSession').getByRole('button', { name: 'Execute' }).click();
        await shoot(page, `${name}-operation`);
        await expectGood(page);

        await page.locator('.btn.authorize').click();
        await page.getByRole('heading', { name: 'Available authorizations' }).waitFor();
        await shoot(page, `${name}-authorize`);
        await expectGood(page);
      },
    );
  },
);
