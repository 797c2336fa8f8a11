import type { NestExpressApplication } from '@nestjs/platform-express';
import { createApp } from './app.js';
import { signLocalOwnerToken } from './auth/owner-tokens.js';
import { errorCode } from './common/error-code.js';
import { type Config, ConfigError, loadConfig, loadEnvFile, localTokensRefusal, Role } from './config/env.js';
import { migrate } from './database/migrate.js';
import {
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  startEmbeddedPostgres,
} from './database/embedded-postgres.js';
import { BULL_BOARD_PATH, operatorCredentials } from './queue/bull-board.js';
import { welcome } from './welcome.js';

/** What is left for closing, after the drain. */
const CLOSE_TIMEOUT_MS = 15_000;

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

async function start(): Promise<void> {
  loadEnvFile();
  let config: Config = loadConfig(roleOf(process.argv[2]));
  let embedded: EmbeddedPostgres | null = null;
  let app: NestExpressApplication | null = null;
  let stopping: Promise<void> | null = null;

  const stop = async (): Promise<void> => {
    // Whatever hangs, the process ends: what it leaves is taken up by the others.
    setTimeout(() => process.exit(1), config.DRAIN_TIMEOUT_MS + CLOSE_TIMEOUT_MS).unref();
    await app?.close();
    await embedded?.stop();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      stopping ??= stop();
    });
  }

  try {
    if (config.DATABASE_URL === undefined) {
      embedded = await startEmbeddedPostgres({ stateDir: config.stateDir });
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
    const operator = operatorCredentials(config);
    process.stdout.write(
      welcome({
        url,
        ownerToken: localTokensRefusal() === null ? signLocalOwnerToken(config.stateDir, 'user_demo') : null,
        board: operator && { url: url + BULL_BOARD_PATH, ...operator },
        database: embedded ? `embedded PostgreSQL, kept in ${config.stateDir}` : 'DATABASE_URL',
        model:
          config.OPENAI_API_KEY === undefined && config.OPENAI_BASE_URL === undefined
            ? 'none: replies come from the chatbot’s own characteristics; set OPENAI_API_KEY for a real model'
            : config.OPENAI_MODEL,
      }),
    );
  } catch (error) {
    await app?.close().catch(() => undefined);
    await embedded?.stop().catch(() => undefined);
    throw error;
  }
}

start().catch((error: unknown) => {
  const isForPeople =
    error instanceof StartError || error instanceof ConfigError || error instanceof EmbeddedPostgresError;
  console.error(isForPeople ? error.message : error);
  process.exit(1);
});
