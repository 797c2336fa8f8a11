import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { build } from 'esbuild';
import { ROOT } from './deploy-files.mjs';

/** The page's script: what it shows is what the test reads, and the test presses its buttons by `window.chat`. */
const script = (isReact: boolean): string => `
const parameters = new URLSearchParams(location.search);
const options = {
  baseUrl: parameters.get('api'),
  chatbotId: parameters.get('chatbot'),
};
window.shown = [];
const note = ({ reply }) => {
  const text = reply?.text ?? '';
  if (text !== '' && text !== window.shown.at(-1)) window.shown.push(text);
};
${
  isReact
    ? `
import { createElement, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { useAssistly } from 'assistly-client/react';
function Page() {
  const chat = useAssistly(options);
  window.chat = { ...chat, getSnapshot: () => chat };
  note(chat);
  return createElement('ul', null, chat.messages.map(({ key, content }) => createElement('li', { key }, content)));
}
const root = createRoot(document.body);
root.render(createElement(StrictMode, null, createElement(Page)));
window.leave = () => root.unmount();`
    : `
import { createChat } from 'assistly-client';
window.chat = createChat(options);
window.chat.subscribe(() => note(window.chat));`
}`;

/** A page with a chat, as one HTML document. It takes `api` and `chatbot` from its address. */
async function chatPage(isReact: boolean): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: script(isReact), resolveDir: ROOT },
    bundle: true,
    format: 'iife',
    define: { 'process.env.NODE_ENV': '"development"' }, // where React does everything twice
    write: false,
  });
  const text = outputFiles[0]!.text.replaceAll('</script', '<\\/script');
  return `<!doctype html><meta charset="utf-8"><title>Chat</title><body><script>${text}</script>`;
}

/** A site with two pages: `/plain`, and `/react`. */
export interface ChatSite {
  url: string;
  close(): Promise<void>;
}

export async function startChatSite(): Promise<ChatSite> {
  const pages = new Map([
    ['/plain', await chatPage(false)],
    ['/react', await chatPage(true)],
  ]);
  const server = createServer((request, response) => {
    const page = pages.get(request.url?.split('?')[0] ?? '');
    response.writeHead(page ? 200 : 404, { 'content-type': 'text/html' }).end(page);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
