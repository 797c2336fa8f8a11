import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import type { Host, Screen } from './host.js';
import { openTab } from './tab.js';

/** The page that the api serves to guests, and the widget that shows it on pages of others: as people use them. */

const BUTTONS = { stop: 'Stop', regenerate: 'Try again' };

/** The page by itself, and its guest nobody known. The other device has what the first one has stored. */
export function guestPageHost(browser: Browser): Host {
  const firsts = new Map<string, BrowserContext>();
  return {
    opensSession: true,
    async open({ api, chatbotId }) {
      const first = firsts.get(chatbotId);
      const context = await browser.newContext({
        locale: 'en',
        viewport: { width: 760, height: 600 },
        ...(first && { storageState: await first.storageState() }),
      });
      if (!first) firsts.set(chatbotId, context);
      return openTab(context, { url: `${api}/c/${chatbotId}`, look, buttons: BUTTONS });
    },
    close: () => Promise.resolve(),
  };
}

/** The widget on a page of another site, which says who its guest is: on the other device as well. */
export async function widgetHost(browser: Browser): Promise<Host> {
  const server = createServer(({ url = '' }, response) => {
    const parameters = new URL(url, 'http://any').searchParams;
    const [api, chatbotId, identity] = ['api', 'chatbotId', 'identity'].map((name) => parameters.get(name));
    response.setHeader('content-type', 'text/html');
    response.end(
      api &&
        `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title><h1>Shop</h1>
        <script>window.Assistly = window.Assistly || []; Assistly.push(['identify', '${identity}'])</script>
        <script src="${api}/widget.js" data-chatbot="${chatbotId}" async></script>`,
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    opensSession: true,
    async open({ api, chatbotId, identity }) {
      const context = await browser.newContext({ locale: 'en', viewport: { width: 760, height: 600 } });
      return openTab(context, {
        // Another site than the product's, to browsers.
        url: `http://localhost:${port}/?${new URLSearchParams({ api, chatbotId, identity }).toString()}`,
        look,
        buttons: BUTTONS,
        chat: (page) => page.frameLocator('iframe'),
        arrive: openWidget,
      });
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function openWidget(page: Page, load: () => Promise<unknown>): Promise<void> {
  await load();
  // By then the guest page has been told who writes, which takes longer only where nobody could have written yet.
  const isKnown = page.waitForRequest((request) => request.url().includes('/v1/guest/sessions?'));
  await page.getByRole('button', { name: 'Chat' }).click();
  await isKnown;
}

/** In the page. */
function look(): Screen | null {
  const { document } = globalThis as any;
  const log = document.querySelector('[role=log]');
  if (!log) return null;
  const problem = log.querySelector('.problem');
  const isBusy = document.querySelector('.stop, .is-sending') || log.ariaBusy === 'true';
  return {
    status: isBusy ? 'busy' : problem ? 'error' : 'ready',
    error: problem?.textContent ?? null,
    messages: [...log.querySelectorAll('.bubble, .answer')].map((element: any) => ({
      role: element.matches('.bubble') ? 'user' : 'assistant',
      text: element.textContent,
    })),
  };
}
