import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import type { Host, Screen } from './host.js';
import { openTab } from './tab.js';

const HERE = fileURLToPath(new URL('../', import.meta.url));

/** The page as such: the client's code fills it. */
const pageOf = (script: string): string =>
  `<!doctype html><meta charset="utf-8"><title>Chat</title><style>${STYLE}</style><div id="root"></div><script type="module" src="${script}"></script>`;
const STYLE =
  'body{font:16px/1.5 sans-serif;max-width:40rem;margin:2rem auto}[data-role]{padding:.5rem 1rem;border-radius:.5rem;white-space:pre-wrap}[data-role=user]{background:#def}[data-role=assistant]{background:#eee}[role=alert]{color:#a00}';

/**
 * @param file the client's, in `clients/`
 * @param names which package it means by a name, where that is not one of its own
 */
export async function browserHost(
  browser: Browser,
  file: string,
  names: Record<string, string> = {},
): Promise<Host> {
  const script = await bundle(file, names);
  // Another origin than the product's, as most pages that have a chat in them.
  const server = createServer(({ url }, response) => {
    const isScript = url === '/client.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? script : pageOf('/client.js'));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    async open({ api, session }) {
      const { id: sessionId, token } = session!;
      // Its own storage, as another device.
      const context = await browser.newContext({ viewport: { width: 760, height: 420 } });
      return openTab(context, {
        url: `http://127.0.0.1:${port}/#${new URLSearchParams({ api, sessionId, token }).toString()}`,
        look,
        buttons: { stop: 'Stop', resume: 'Resume', regenerate: 'Retry' },
      });
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** In the page. */
function look(): Screen | null {
  const { document } = globalThis as any;
  const status = document.querySelector('[data-status]')?.dataset.status;
  if (!status) return null;
  return {
    status,
    error: document.querySelector('[role=alert]')?.textContent ?? null,
    messages: [...document.querySelectorAll('[data-role]')].map((element: any) => ({
      role: element.dataset.role,
      text: element.textContent,
    })),
  };
}

/** The client with all that it imports, by an esbuild that is installed beside the clients. */
async function bundle(file: string, alias: Record<string, string>): Promise<string> {
  const esbuild = createRequire(pathToFileURL(join(HERE, 'package.json')))('esbuild') as {
    build(options: object): Promise<{ outputFiles: { text: string }[] }>;
  };
  const { outputFiles } = await esbuild.build({
    entryPoints: [join(HERE, 'clients', file)],
    absWorkingDir: HERE,
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    alias,
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'error',
  });
  return outputFiles[0]!.text;
}
