import { setTimeout as sleep } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import { ChatbotsService } from './chatbots/chatbots.service.js';
import { operatorCredentials } from './auth/operator.js';
import { signLocalOwnerToken } from './auth/owner-tokens.js';
import { type Config, localTokensRefusal, Role } from './config/env.js';
import { BULL_BOARD_PATH } from './operations/queue-board.js';
import { Readiness } from './runtime/readiness.js';
import type { EmbeddedPostgres } from './dev/embedded-postgres/embedded-postgres.js';
import { demoChatbot } from './dev/demo-chatbot.js';
import { welcome } from './dev/welcome.js';
import { GuestPage } from './guest-page/guest-page.js';

/** Whose token is printed, and whose the demo is. */
const DEMO_OWNER = 'user_demo';
/** Longest that the welcome waits for the rest of the process. */
const READY_TIMEOUT_MS = 5_000;

interface Started {
  app: INestApplicationContext;
  config: Config;
  url: string;
  embedded: EmbeddedPostgres | null;
  isStopping: () => boolean;
}

/** @returns the names of the parts that are still missing after a while */
async function waitUntilReady(readiness: Readiness, isStopping: () => boolean): Promise<string[]> {
  const end = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const missing = await readiness.missing();
    if (missing.length === 0 || isStopping() || Date.now() >= end) return missing;
    await sleep(100);
  }
}

/** Writes the welcome, once the process is ready or a while has passed; nothing when it is told to stop before. */
export async function greet({ app, config, url, embedded, isStopping }: Started): Promise<void> {
  const missing = await waitUntilReady(app.get(Readiness, { strict: false }), isStopping);
  if (isStopping()) return;
  const operator = operatorCredentials(config);
  const board = operator && { url: url + BULL_BOARD_PATH, ...operator };
  const chat = embedded && missing.length === 0 ? await demoPage(app, url, embedded.directory) : null;
  if (config.role !== Role.Worker)
    app
      .get(GuestPage, { strict: false })
      .showStart({ chat, docs: `${url}/docs`, board: board?.url ?? null, api: url });
  process.stdout.write(
    welcome({
      url,
      isTerminal: process.stdout.isTTY,
      chat,
      missing,
      ownerToken: localTokensRefusal() === null ? signLocalOwnerToken(config.stateDir, DEMO_OWNER) : null,
      board,
      database: embedded ? `embedded PostgreSQL, kept in ${embedded.directory}` : 'DATABASE_URL',
      model: modelOf(config),
    }),
  );
}

function modelOf({ role, OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_MODEL }: Config): string {
  if (role === Role.Api) return 'that of the worker, whose log names it';
  return OPENAI_API_KEY === undefined && OPENAI_BASE_URL === undefined
    ? 'none: replies come from the chatbot’s own characteristics; set OPENAI_API_KEY for a real model'
    : OPENAI_MODEL;
}

async function demoPage(
  app: INestApplicationContext,
  url: string,
  directory: string,
): Promise<string | null> {
  const chatbots = app.get(ChatbotsService, { strict: false });
  const id = await demoChatbot({
    directory,
    create: async (chatbot) => (await chatbots.create(DEMO_OWNER, chatbot, null)).chatbot.id,
    exists: (id) =>
      chatbots.getPublic(id).then(
        () => true,
        () => false,
      ),
  });
  return id === null ? null : `${url}/c/${id}`;
}
