import { setTimeout as sleep } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import { operatorCredentials } from './auth/operator.js';
import { signLocalOwnerToken } from './auth/owner-tokens.js';
import { type Config, localTokensRefusal } from './config/env.js';
import { BULL_BOARD_PATH } from './operations/queue-board.js';
import { Readiness } from './runtime/readiness.js';
import type { EmbeddedPostgres } from './dev/embedded-postgres/embedded-postgres.js';
import { welcome } from './dev/welcome.js';

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
  process.stdout.write(
    welcome({
      url,
      missing,
      ownerToken: localTokensRefusal() === null ? signLocalOwnerToken(config.stateDir, 'user_demo') : null,
      board: operator && { url: url + BULL_BOARD_PATH, ...operator },
      database: embedded ? `embedded PostgreSQL, kept in ${embedded.directory}` : 'DATABASE_URL',
      model:
        config.OPENAI_API_KEY === undefined && config.OPENAI_BASE_URL === undefined
          ? 'none: replies come from the chatbot’s own characteristics; set OPENAI_API_KEY for a real model'
          : config.OPENAI_MODEL,
    }),
  );
}
