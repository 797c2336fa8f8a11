import { setTimeout as sleep } from 'node:timers/promises';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { createApp } from './create-app.js';
import { signLocalOwnerToken } from './auth/owner-tokens.js';
import { errorCode } from './runtime/error-code.js';
import { operatorCredentials } from './auth/operator.js';
import { Readiness } from './runtime/readiness.js';
import { type Config, ConfigError, loadConfig, loadEnvFile, localTokensRefusal, Role } from './config/env.js';
import { migrate } from './migrate.js';
import {
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  startEmbeddedPostgres,
} from './database/embedded-postgres.js';
import { BULL_BOARD_PATH } from './operations/queue-board.js';
import { welcome } from './welcome.js';

/** What is left for closing, after the drain. */
const CLOSE_TIMEOUT_MS = 15_000;
/** Longest that the welcome waits for the rest of the process. */
const READY_TIMEOUT_MS = 5_000;

/** A reason not to start that a person can do something about: its message is all that is shown. */
class StartError extends Error {}

function roleOf(argument: string | undefined): Role {
  if (argument === undefined) return Role.All;
  if (argument === Role.Api || argument === Role.Worker) return argument;
  throw new StartError(
    `Unknown role "${argument}": start with "api", with "worker", or with neither for both in one.`,
  );
}

async function listen(
  app: NestExpressApplication,
  port: number,
  variable: string,
  host: string,
): Promise<string> {
  try {
    await app.listen(port, host);
    return (await app.getUrl()).replace('[::1]', '127.0.0.1');
  } catch (error) {
    const code = errorCode(error);
    if (code === 'EADDRINUSE') {
      throw new StartError(`Port ${port} is taken by another program. Set ${variable} to a free one.`);
    }
    if (code === 'EACCES')
      throw new StartError(`Port ${port} may not be used by this user. Set ${variable} to another.`);
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
      throw new StartError(`This machine has no address ${host}. Set HOST.`);
    throw error;
  }
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

async function start(): Promise<void> {
  loadEnvFile();
  let config: Config = loadConfig(roleOf(process.argv[2]));
  let embedded: EmbeddedPostgres | null = null;
  let app: NestExpressApplication | null = null;
  let stopping: Promise<void> | null = null;

  const close = async (): Promise<void> => {
    try {
      await app?.close();
    } finally {
      await embedded?.stop();
    }
  };

  const open = async (): Promise<void> => {
    if (config.DATABASE_URL === undefined) {
      embedded = await startEmbeddedPostgres({ stateDir: config.stateDir, log: console.log });
      await migrate(embedded.url);
      config = { ...config, DATABASE_URL: embedded.url };
    }
    app = await createApp(config);
    if (config.role === Role.Worker) {
      if (config.WORKER_HEALTH_PORT === 0) await app.init();
      else await listen(app, config.WORKER_HEALTH_PORT, 'WORKER_HEALTH_PORT', config.HOST);
      return;
    }
    const url = await listen(app, config.PORT, 'PORT', config.HOST);
    if (config.isProduction) return;
    const missing = await waitUntilReady(app.get(Readiness, { strict: false }), () => stopping !== null);
    if (stopping !== null) return;
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
  };

  const opening = open().catch(async (error: unknown) => {
    await close().catch(() => undefined);
    throw error;
  });

  const stop = async (): Promise<void> => {
    // Whatever hangs, the process ends: what it leaves is taken up by the others.
    setTimeout(() => process.exit(1), config.DRAIN_TIMEOUT_MS + CLOSE_TIMEOUT_MS).unref();
    await opening; // what is half open cannot be closed, and a database that comes up would be left running
    await close();
    process.exit(0);
  };
  const stopped = new Promise<void>((_, reject) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        stopping ??= stop().catch(reject);
      });
    }
  });
  await opening;
  await stopped;
}

start().catch((error: unknown) => {
  const isForPeople =
    error instanceof StartError || error instanceof ConfigError || error instanceof EmbeddedPostgresError;
  console.error(isForPeople ? error.message : error);
  process.exit(1);
});
