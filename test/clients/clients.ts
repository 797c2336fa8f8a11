import type { Browser } from 'playwright-core';
import { browserHost } from './lib/browser-host.js';
import type { Host, Press } from './lib/host.js';
import { nodeHost } from './lib/node-host.js';
import { guestPageHost, widgetHost } from './lib/page-host.js';

/** What helps where something went wrong; to regenerate is offered after an error only. */
export type Way = Extract<Press, 'resume' | 'regenerate'> | 'reload';

/** One row of the table. */
export interface Client {
  name: string;
  /** What its documentation shows for when an answer broke off. */
  ways: readonly Way[];
  host(browser: Browser): Host | Promise<Host>;
}

const OF_AI_SDK = ['resume', 'reload', 'regenerate'] as const;

const useChatInNode = (major: number): Client => ({
  name: `\`useChat\` ${major}`,
  ways: OF_AI_SDK,
  host: () => nodeHost('use-chat.mjs', { major }),
});

export const CLIENTS: readonly Client[] = [
  useChatInNode(5),
  useChatInNode(6),
  useChatInNode(7),
  {
    name: '`useChat` 7, Chromium',
    ways: OF_AI_SDK,
    host: (browser) => browserHost(browser, 'use-chat.jsx', { '@ai-sdk/react': 'react-ai7', ai: 'ai7' }),
  },
  {
    name: 'assistant-ui, Chromium',
    ways: OF_AI_SDK,
    host: (browser) => browserHost(browser, 'assistant-ui.jsx'),
  },
  {
    name: '`EventSource`, Chromium',
    ways: ['reload'],
    host: (browser) => browserHost(browser, 'event-source.js'),
  },
  { name: '`assistly-client`, Node.js', ways: ['reload'], host: () => nodeHost('typed.mjs') },
  {
    name: '`assistly-client`, Chromium',
    ways: ['reload'],
    host: (browser) => browserHost(browser, 'typed.js'),
  },
  { name: 'guest page, Chromium', ways: ['reload', 'regenerate'], host: guestPageHost },
  { name: 'widget, Chromium', ways: ['reload', 'regenerate'], host: widgetHost },
];
