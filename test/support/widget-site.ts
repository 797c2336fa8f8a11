import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { ROOT } from './deploy-files.mjs';

/**
 * Plays the guest page for the widget: it speaks the protocol of the two and nothing else. What it was told is in
 * `told`; `say` tells its parent something. Of a chatbot named `slow…` it is ready when the test calls `ready()`, and of one
 * named `never` it does not come.
 */
const GUEST_PAGE = `<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <meta name="color-scheme" content="light dark">
  <title>Chat</title>
  <style>
    html { background: Canvas; font: 16px/1.5 system-ui; height: 100% }
    body { margin: 0; height: 100%; display: flex; flex-direction: column }
    header { height: 56px; padding: 0 16px; border-bottom: 1px solid #8883; display: flex; align-items: center; font-weight: 600; box-sizing: border-box }
    main { flex: 1; padding: 16px }
    input { margin: 16px; padding: 12px; font: inherit; border: 1px solid #888; border-radius: 12px }
  </style>
  <header>Bakery</header>
  <main>Hello! How can I help?</main>
  <input aria-label="Message" placeholder="Message">
  <script>
    const told = [];
    const say = (message) => parent.postMessage({ assistly: 1, ...message }, '*');
    const ready = () => say({ type: 'ready' });
    addEventListener('message', ({ data, source, origin }) => {
      if (source !== parent || data?.assistly !== 1) return;
      const { assistly, ...message } = JSON.parse(JSON.stringify(data));
      told.push(message);
      if (data.type === 'opened') focusField();
    });
    // In a process of its own, the frame may hear that it is open before it hears that it has focus.
    const focusField = () => document.hasFocus() && document.querySelector('input').focus();
    addEventListener('focus', () => document.activeElement === document.body && focusField());
    addEventListener('keydown', ({ key }) => key === 'Escape' && say({ type: 'close' }));
    if (!location.pathname.startsWith('/c/slow')) ready();
  </script>
</html>`;

/** Two origins: an api's, with the widget as it was built and a stand-in for the guest page, and a site that embeds it. */
export interface WidgetSite {
  /** The api's origin. */
  api: string;
  /** Puts a page on the site, and gives its address. */
  addPage(html: string, headers?: Record<string, string>): string;
  close(): Promise<void>;
}

async function listen(answer: RequestListener): Promise<{ server: Server; port: number }> {
  const server = createServer(answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

export async function startWidgetSite(): Promise<WidgetSite> {
  const script = readFileSync(join(ROOT, 'dist/web/widget.js'));
  const pages: { html: string; headers: Record<string, string> }[] = [];
  const api = await listen((request, response) => {
    if (request.url?.startsWith('/c/never')) return;
    const isScript = request.url === '/widget.js';
    const isPage = /^\/c\/[\w-]+\?embed=1$/.test(request.url ?? '');
    response
      .writeHead(isScript || isPage ? 200 : 404, {
        'content-type': isScript ? 'text/javascript' : 'text/html',
      })
      .end(isScript ? script : isPage ? GUEST_PAGE : undefined);
  });
  const site = await listen((request, response) => {
    const page = pages[Number(/^\/(\d+)/.exec(request.url ?? '')?.[1])];
    response
      .writeHead(page ? 200 : 404, { 'content-type': 'text/html; charset=utf-8', ...page?.headers })
      .end(page?.html);
  });
  return {
    api: `http://127.0.0.1:${api.port}`,
    addPage: (html, headers = {}) => `http://localhost:${site.port}/${pages.push({ html, headers }) - 1}`,
    async close() {
      for (const { server } of [api, site]) {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      }
    },
  };
}
