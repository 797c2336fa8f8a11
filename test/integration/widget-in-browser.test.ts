import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser, BrowserContextOptions, Frame, Locator, Page } from 'playwright-core';
import { startBrowser } from '../support/browser.js';
import { startWidgetSite, type WidgetSite } from '../support/widget-site.js';
import { waitFor } from '../support/wait.js';

/** The widget as it was built, in pages of others. What it embeds is played: the guest page has tests of its own. */

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  isMobile: true,
  hasTouch: true,
  deviceScaleFactor: 2,
};
/** Where screenshots go, for who wants to look at them. */
const SHOTS = process.env['SCREENSHOTS'];

interface Host {
  /** The attributes of each widget's script. */
  scripts?: string[];
  head?: string;
  html?: string;
  body?: string;
  headers?: Record<string, string>;
  context?: BrowserContextOptions;
}

(globalThis.CHROMIUM === null && process.env['CI'] !== 'true' ? describe.skip : describe)(
  'in a browser',
  () => {
    let browser: Browser;
    let site: WidgetSite;
    beforeAll(async () => {
      browser = await startBrowser();
      site = await startWidgetSite();
    });
    afterAll(async () => {
      await browser?.close();
      await site?.close();
    });
    afterEach(async () => {
      for (const context of browser.contexts()) await context.close();
    });

    /** A page with the widget, what it asked of the network, and what the browser complained about. */
    async function visit({
      scripts = ['data-chatbot="one" async'],
      head = '',
      html = 'lang="en"',
      body = '',
      headers,
      context: contextOptions,
    }: Host = {}) {
      const context = await browser.newContext({ locale: 'en-US', ...contextOptions });
      const page = await context.newPage();
      page.setDefaultTimeout(30_000);
      const requests: string[] = [];
      const complaints: string[] = [];
      page.on('request', (request) => requests.push(request.url()));
      page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(error.message));
      const tags = scripts.map((attributes) => `<script src="${site.api}/widget.js" ${attributes}></script>`);
      const url = site.addPage(
        `<!doctype html><html ${html}><head><title>Shop</title><link rel="icon" href="data:,">
        <meta name="viewport" content="width=device-width"><base href="/">${head}${tags.join('')}</head>
        <body><main><h1>Shop</h1><button id="own">Ask us</button><input aria-label="Search">${body}</main></body></html>`,
        headers,
      );
      await page.goto(url);
      return { page, requests, complaints, url };
    }

    const launcherOf = (page: Page): Locator => page.getByRole('button', { name: /^Chat\b/ });
    const panelOf = (page: Page): Locator => page.getByRole('dialog', { name: 'Chat' });
    /** The guest page, once it listens. */
    async function guestPage(page: Page, chatbot = 'one'): Promise<Frame> {
      const frame = await waitFor('the frame', async () => {
        const found = page.frames().find((each) => each.url() === `${site.api}/c/${chatbot}?embed=1`);
        return found && (await found.evaluate('typeof told')) === 'object' ? found : undefined;
      });
      return frame;
    }
    const told = (frame: Frame): Promise<{ type: string }[]> => frame.evaluate('told');
    const untilTold = (frame: Frame, type: string): Promise<unknown> =>
      waitFor(`the page to be told "${type}"`, async () =>
        (await told(frame)).some((message) => message.type === type),
      );
    async function open(page: Page): Promise<Frame> {
      await launcherOf(page).click();
      const frame = await guestPage(page);
      await untilTold(frame, 'opened');
      return frame;
    }
    const untilFocused = (where: Page | Frame, selector: string): Promise<unknown> =>
      waitFor(`focus in ${selector}`, () =>
        where.evaluate(`document.hasFocus() && document.activeElement.matches(${JSON.stringify(selector)})`),
      );
    const untilLauncherFocused = (page: Page): Promise<unknown> =>
      waitFor('focus on the launcher', () =>
        launcherOf(page).evaluate(
          (button) => (button.getRootNode() as any).activeElement === button && button.matches(':focus'),
        ),
      );
    /** Once more where the key was lost: until the browser knows that focus has left a frame, keys go to its process. */
    const openByEnter = (page: Page): Promise<unknown> =>
      waitFor('the panel to open', async () => {
        await page.keyboard.press('Enter');
        return (await launcherOf(page).getAttribute('aria-expanded')) === 'true';
      });
    async function shoot(page: Page, name: string): Promise<void> {
      if (SHOTS === undefined) return;
      await page.waitForTimeout(300);
      await page.screenshot({ path: `${SHOTS}/${name}.png` });
    }

    it('asks for its script alone until it is opened, and for the guest page then', async () => {
      const { page, requests, url } = await visit();
      await launcherOf(page).waitFor();
      expect(requests).toEqual([url, `${site.api}/widget.js`]);
      await shoot(page, 'desktop-closed');

      await open(page);

      expect(requests.slice(2)).toEqual([`${site.api}/c/one?embed=1`]);
      expect(await page.title()).toBe('Shop');
      const box = await panelOf(page).boundingBox();
      expect(box).toMatchObject({ width: 402, height: 720 - 104 + 2 });
      await shoot(page, 'desktop-open');
    });

    it('works under a policy of script-src and frame-src alone', async () => {
      const policy = `default-src 'none'; script-src ${site.api}; frame-src ${site.api}`;
      const { page, complaints } = await visit({
        headers: { 'content-security-policy': policy },
        head: '<script>window.inline = true</script>',
        scripts: ['data-chatbot="one" data-color="#b00020" async'],
      });
      await launcherOf(page).waitFor();
      expect(complaints.filter((text) => !text.includes('inline script'))).toEqual([
        expect.stringContaining('data:'), // the page's own icon
      ]);
      complaints.length = 0;

      const frame = await open(page);
      await frame.evaluate(`say({ type: 'unread', count: 2 })`);
      await page.getByRole('button', { name: 'Chat 2 unread' }).waitFor();
      await launcherOf(page).click();
      await panelOf(page).waitFor({ state: 'hidden' });

      expect(complaints).toEqual([]);
      expect(await page.evaluate('window.inline')).toBeUndefined(); // the policy is in force
      expect(
        await launcherOf(page).evaluate(
          (button) => (globalThis as any).getComputedStyle(button).backgroundColor,
        ),
      ).toBe('rgb(176, 0, 32)');
    });

    it('is seen, and where it belongs, whatever the page’s styles say', async () => {
      const hostile = `
        html > div, html > *:not(body, head), body * { display: none !important; }
        * { position: static !important; font-size: 0 !important; opacity: 0.01 !important; visibility: hidden;
            transform: scale(0.1) !important; all: unset; z-index: -1 !important; width: 3px !important; }
        html, body { opacity: 1 !important; transform: none !important; visibility: visible }
        button { background: url("x:y") !important; color: red !important; border: 9px solid !important; }
        iframe, div, section { display: none !important; height: 1px !important; pointer-events: none !important; }`;
      const { page } = await visit({
        head: `<style>@layer x { * { display: none !important } html, body { display: block !important } }</style><style>${hostile}</style>`,
      });
      const button = await launcherOf(page).boundingBox();
      expect(button).toEqual({ x: 1280 - 20 - 56, y: 720 - 20 - 56, width: 56, height: 56 });

      const frame = await open(page);

      const panel = await panelOf(page).boundingBox();
      expect(panel).toMatchObject({ x: 1280 - 20 - 402, width: 402, height: 618 });
      expect(await frame.evaluate('innerWidth')).toBe(400);
      const shown = await page.evaluate(
        `[document.elementFromPoint(1232, 672), document.elementFromPoint(1000, 400)].map((e) => e.shadowRoot !== null)`,
      );
      expect(shown).toEqual([true, true]);
      await shoot(page, 'hostile-open');
    });

    it('stays where a single-page application moves on, with its conversation', async () => {
      const { page } = await visit();
      const frame = await open(page);
      await frame.evaluate('mark = 1');

      await page.evaluate(
        `history.pushState({}, '', '/next'); document.body.innerHTML = '<main>Next</main>'`,
      );
      await page.evaluate(`document.body.replaceWith(document.createElement('body'))`);

      expect(await panelOf(page).isVisible()).toBe(true);
      expect(await frame.evaluate('mark')).toBe(1);
    });

    it('comes back where a framework takes away what it did not make, and says again who the guest is', async () => {
      const { page } = await visit();
      await page.evaluate(`Assistly.identify('who')`);
      await untilTold(await open(page), 'identify');

      await page.evaluate(`document.documentElement.replaceChildren(document.head, document.body)`);

      await launcherOf(page).waitFor();
      const again = await guestPage(page);
      await untilTold(again, 'opened');
      expect(await told(again)).toEqual([{ type: 'identify', token: 'who' }, { type: 'opened' }]);
    });

    it('is there once for a chatbot, however often its script is', async () => {
      const { page } = await visit({ scripts: ['data-chatbot="one"', 'data-chatbot="one"'] });
      await launcherOf(page).waitFor();

      await page.evaluate(`(s => { s.src = '${site.api}/widget.js'; s.dataset.chatbot = 'one'; document.head.append(s);
        return new Promise((resolve) => { s.onload = resolve }) })(document.createElement('script'))`);

      expect(await launcherOf(page).count()).toBe(1);
    });

    it('is there for each of two chatbots, and each is told apart', async () => {
      const { page } = await visit({
        scripts: ['data-chatbot="one"', 'data-chatbot="two" data-label="Sales" data-position="left"'],
      });
      const sales = page.getByRole('button', { name: 'Sales' });
      expect((await sales.boundingBox())?.x).toBe(20);
      expect(
        await page.evaluate(`Assistly === Assistly.of('one') && Assistly.of('three') === undefined`),
      ).toBe(true);

      await page.evaluate(`Assistly.of('two').open()`);

      await untilTold(await guestPage(page, 'two'), 'opened');
      expect(page.frames()).toHaveLength(2);
      await page.evaluate('Assistly.destroy()');
      expect(await page.evaluate(`Assistly === Assistly.of('two') && Assistly.of('one') === undefined`)).toBe(
        true,
      );
      expect(await sales.isVisible()).toBe(true);
      expect(await launcherOf(page).count()).toBe(0);
    });

    it('does what was asked before it had loaded, and tells the guest page once it listens who the guest is', async () => {
      const { page } = await visit({
        head: `<script>
          window.Assistly = window.Assistly || [];
          heard = [];
          Assistly.push(['on', 'open', () => heard.push('open')]);
          Assistly.push(['identify', 'first']);
          Assistly.push(['logout']);
          Assistly.push(['identify', 'last']);
          Assistly.push(['reset']);
        </script>`,
      });
      await launcherOf(page).waitFor();
      expect(page.frames()).toHaveLength(1);

      const frame = await open(page);

      expect(await told(frame)).toEqual([
        { type: 'identify', token: 'last' },
        { type: 'reset' },
        { type: 'opened' },
      ]);
      await page.evaluate(`Assistly.push(['logout'])`);
      await untilTold(frame, 'logout');
      expect(await page.evaluate('heard')).toEqual(['open']);
    });

    it('takes focus in and gives it back: to the launcher, by Escape and by the page’s own button', async () => {
      const { page } = await visit();
      await launcherOf(page).focus();
      await openByEnter(page);
      const frame = await guestPage(page);
      await untilFocused(frame, 'input');
      expect(await launcherOf(page).getAttribute('aria-expanded')).toBe('true');

      await page.keyboard.press('Escape');
      await untilLauncherFocused(page);
      expect(await panelOf(page).isVisible()).toBe(false);

      await openByEnter(page);
      await untilFocused(frame, 'input');
      await page.keyboard.type('hi');
      expect(await frame.evaluate('document.querySelector("input").value')).toBe('hi');
      await page.keyboard.press('Shift+Tab');
      await untilLauncherFocused(page);
      await page.keyboard.press('Escape');
      expect(await panelOf(page).isVisible()).toBe(false);
      await untilLauncherFocused(page);
    });

    it('gives focus back to the site’s own button that opened it', async () => {
      const { page } = await visit();
      await launcherOf(page).waitFor();
      await page.evaluate('own.onclick = () => Assistly.open()');

      await page.click('#own');
      await untilFocused(await guestPage(page), 'input');
      await page.keyboard.press('Escape');

      await untilFocused(page, '#own');
    });

    it('takes no focus by itself, opened by a script or by data-open', async () => {
      // All of it in the page, which tells the end in its console: what a test evaluates counts as done by a person.
      const { page, complaints } = await visit({
        scripts: ['data-chatbot="one" data-open async'],
        head: `<script>
          const seen = [];
          const look = () => seen.push(document.activeElement.tagName);
          addEventListener('load', () => setTimeout(() => {
            look();
            Assistly.close();
            document.querySelector('input').focus();
            Assistly.toggle();
            look();
            Assistly.close();
            look();
            console.error(seen.join());
          }, 200));
        </script>`,
      });

      await waitFor('it to be over', () => complaints.length > 0);

      expect(complaints).toEqual(['BODY,INPUT,INPUT']);
      const frame = await guestPage(page);
      await untilTold(frame, 'closed');
      expect(await frame.evaluate('document.activeElement.tagName')).toBe('BODY');
    });

    it('tells how many answers are unread, and the site’s scripts what happens', async () => {
      const { page } = await visit({ scripts: ['data-chatbot="one" data-unread="neu" async'] });
      await launcherOf(page).waitFor();
      await page.evaluate(`heard = []; stop = Assistly.on('unread', ({ count }) => heard.push(count));
        for (const name of ['open', 'close', 'message', 'session', 'identityRequired']) Assistly.on(name, () => heard.push(name))`);
      const frame = await open(page);
      await launcherOf(page).click();

      await frame.evaluate(
        `say({ type: 'session' }); say({ type: 'message' }); say({ type: 'unread', count: 3 })`,
      );

      await page.getByRole('button', { name: 'Chat 3 neu', exact: true }).waitFor();
      expect(await page.getByRole('status').textContent()).toBe('3 neu');
      const { x, y, width, height } = (await page.getByRole('status').boundingBox())!;
      const onTop = `document.documentElement.lastElementChild.shadowRoot.elementFromPoint(${x + width / 2}, ${y + height / 2}).role`;
      expect(await page.evaluate(onTop)).toBe('status');
      await shoot(page, 'desktop-unread');
      await page.evaluate('stop()');
      await frame.evaluate(`say({ type: 'unread', count: 0 }); say({ type: 'identityRequired' })`);
      await page.getByRole('button', { name: 'Chat', exact: true }).waitFor();
      await waitFor('the last event', () => page.evaluate(`heard.at(-1) === 'identityRequired'`));
      expect(await page.evaluate('heard')).toEqual([
        'open',
        'close',
        'session',
        'message',
        3,
        'identityRequired',
      ]);
    });

    it('believes its own frame alone, and only while the guest page is in it', async () => {
      const { page } = await visit({
        body: `<iframe title="Other" src="${site.api}/c/other?embed=1"></iframe>`,
        head: `<script>addEventListener('message', ({ data }) => { if (data === 'last') window.last = true })</script>`,
      });
      const frame = await open(page);
      const lie = `{ assistly: 1, type: 'unread', count: 9 }`;

      await page.evaluate(`postMessage(${lie}, '*')`);
      await (await guestPage(page, 'other')).evaluate(`say(${lie})`);
      await frame.evaluate(
        `parent.postMessage({ type: 'unread', count: 9 }, '*'); parent.postMessage(null, '*')`,
      );
      await frame.goto(
        `data:text/html,<script>parent.postMessage(${lie}, '*'); parent.postMessage('last', '*')</script>`,
      );

      await waitFor('the last of them', () => page.evaluate('window.last'));
      expect(await page.getByRole('status').textContent()).toBe('');
    });

    it('leaves nothing behind when it is destroyed, and can come again', async () => {
      const { page, complaints } = await visit({ context: PHONE });
      await open(page);
      await page.evaluate('kept = Assistly; Assistly.destroy()');

      expect(
        await page.evaluate(
          `[document.documentElement.children.length, document.adoptedStyleSheets.length, typeof Assistly, getComputedStyle(document.documentElement).overflow]`,
        ),
      ).toEqual([2, 0, 'undefined', 'visible']);
      await page.evaluate(
        `kept.identify('late'); kept.close(); dispatchEvent(new MessageEvent('message', { data: null }))`,
      );
      await page.evaluate(
        `(s => { s.src = '${site.api}/widget.js'; s.dataset.chatbot = 'one'; document.head.append(s) })(document.createElement('script'))`,
      );
      await launcherOf(page).waitFor();
      expect(complaints).toEqual([]);
    });

    it('is the whole screen of a phone, above its keyboard, and the page behind does not scroll', async () => {
      const { page } = await visit({ body: '<p style="height: 3000px">Long</p>', context: PHONE });
      await shoot(page, 'phone-closed');
      await open(page);
      await launcherOf(page).waitFor({ state: 'hidden' });
      const size = async () => (await panelOf(page).boundingBox())!;
      expect(await size()).toEqual({ x: 0, y: 0, width: 390, height: 844 });
      expect(await page.evaluate('getComputedStyle(document.documentElement).overflow')).toBe('hidden');
      await shoot(page, 'phone-open');

      // As a keyboard of 400 pixels does it, which a headless browser has not.
      await page.evaluate(`Object.defineProperties(visualViewport, { height: { value: 444 }, offsetTop: { value: 30 } });
        visualViewport.dispatchEvent(new Event('resize'))`);
      expect(await size()).toEqual({ x: 0, y: 30, width: 390, height: 444 });

      const frame = await guestPage(page);
      await frame.evaluate(`say({ type: 'close' })`);
      await launcherOf(page).waitFor();
      expect(await page.evaluate('getComputedStyle(document.documentElement).overflow')).toBe('visible');
    });

    it('shows its panel at once and in its size, before the guest page has come', async () => {
      const { page } = await visit({ scripts: ['data-chatbot="never" async'] });

      await launcherOf(page).click();

      expect(await panelOf(page).boundingBox()).toMatchObject({ width: 402, height: 618 });
      expect(await launcherOf(page).getAttribute('aria-expanded')).toBe('true');
      await shoot(page, 'desktop-loading');
    });

    it('can be closed on a phone before the guest page has answered', async () => {
      const { page } = await visit({ scripts: ['data-chatbot="slow" async'], context: PHONE });
      await launcherOf(page).click();
      await panelOf(page).waitFor();

      await launcherOf(page).click();

      await panelOf(page).waitFor({ state: 'hidden' });
      const frame = await guestPage(page, 'slow');
      await frame.evaluate('ready()');
      await untilTold(frame, 'closed');
    });

    it('stands at the end of the line, left where a page is written from the right, and is drawn in black on what is light', async () => {
      const { page } = await visit({
        html: 'lang="ar" dir="rtl"',
        scripts: ['data-chatbot="one" data-color="#ffe45c" async'],
      });
      expect((await launcherOf(page).boundingBox())?.x).toBe(20);
      const icon = await launcherOf(page).evaluate(
        (button) => (globalThis as any).getComputedStyle(button, '::before').borderTopColor,
      );
      expect(icon).toMatch(/oklch\(0 |rgb\(0, 0, 0\)/);
      await open(page);
      expect((await panelOf(page).boundingBox())?.x).toBe(20);
      await shoot(page, 'rtl-open');
    });

    it.each([
      ['on a desktop', {}],
      ['on a phone', PHONE],
    ])('has nothing that axe finds, closed and open, %s', async (_where, context) => {
      const { page } = await visit({ context });
      await launcherOf(page).waitFor();
      const findings = async () => {
        await page.evaluate(AXE);
        const { violations, passes } = (await page.evaluate(
          `axe.run(document, { iframes: false, resultTypes: ['violations'] })`,
        )) as { violations: { id: string; nodes: { html: string }[] }[]; passes: unknown[] };
        expect(passes.length).toBeGreaterThan(10);
        return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
      };

      expect(await findings()).toEqual([]);
      const frame = await open(page);
      expect(await findings()).toEqual([]);
      await frame.evaluate(`say({ type: 'close' }); say({ type: 'unread', count: 12 })`);
      await page.getByRole('button', { name: 'Chat 12 unread' }).waitFor();
      expect(await findings()).toEqual([]);
    });
  },
);
