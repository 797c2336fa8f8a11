import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { errorCode } from './runtime/error-code.js';
import { StartError } from './runtime/start-error.js';
import { type Config, ConfigError, loadConfig, loadEnvFile, Role } from './config/env.js';
import type { EmbeddedPostgres } from './dev/embedded-postgres/embedded-postgres.js';

/** What is left for closing, after the drain. */
const CLOSE_TIMEOUT_MS = 15_000;
/** Ample for what is being compiled to be done. */
const COMPILED_WITHIN_MS = 50;

function roleOf(argument: string | undefined): Role {
  if (argument === undefined) return Role.All;
  if (argument === Role.Api || argument === Role.Worker) return argument;
  throw new StartError(
    `Unknown role "${argument}": start with "api", with "worker", or with neither for both in one.`,
  );
}

/** Where a role listens. */
interface Address {
  port: number;
  host: string;
  /** The setting that the port comes from. */
  variable: 'PORT' | 'WORKER_HEALTH_PORT';
}

/** @returns null for a worker without a health port */
function addressOf(config: Config): Address | null {
  if (config.role !== Role.Worker) return { port: config.PORT, host: config.HOST, variable: 'PORT' };
  if (config.WORKER_HEALTH_PORT === 0) return null;
  return { port: config.WORKER_HEALTH_PORT, host: config.HOST, variable: 'WORKER_HEALTH_PORT' };
}

/** What a person can do about an address that cannot be listened on. */
function addressRefusal(error: unknown, { port, host, variable }: Address): unknown {
  switch (errorCode(error)) {
    case 'EADDRINUSE':
      return new StartError(`Port ${port} is taken by another program. Set ${variable} to a free one.`);
    case 'EACCES':
      return new StartError(`Port ${port} may not be used by this user. Set ${variable} to another.`);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new StartError(`This machine has no address ${host}. Set HOST.`);
    default:
      return error;
  }
}

/**
 * Listens for a moment, so that an address that is taken is found before anything is opened: an application that fails
 * to listen is half started, and logs stack traces while it is closed again.
 */
async function tryAddress(address: Address): Promise<void> {
  const server = createServer().listen(address.port, address.host);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw addressRefusal(error, address);
  }
  server.close();
  await once(server, 'close');
}

async function listen(app: NestExpressApplication, address: Address): Promise<string> {
  try {
    await app.listen(address.port, address.host);
    return (await app.getUrl()).replace('[::1]', '127.0.0.1');
  } catch (error) {
    throw addressRefusal(error, address);
  }
}

/**
 * Has V8 begin no compilation in a thread beside ours any more. `process.exit` waits for those threads, and one that needs
 * a garbage collection waits for ours: then the process hangs for ever (nodejs/node#54918).
 */
function compileNothingMore(): void {
  setFlagsFromString('--no-concurrent-sparkplug');
  setFlagsFromString('--no-concurrent-recompilation');
}

/**
 * Whether V8's young generation may grow. Most of what a start allocates stays; it would make room for it as if it were
 * garbage, and keep that room: some 50 MB of what an api takes that nobody has asked anything.
 */
function growYoungGeneration(mayGrow: boolean): void {
  setFlagsFromString(`--semi-space-growth-factor=${mayGrow ? 2 : 1}`);
}

/**
 * Nothing of the application is imported before its settings and its address are found usable: it takes most of a
 * start to load, and what is wrong is told at once.
 */
async function start(): Promise<void> {
  growYoungGeneration(false);
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
      const { startEmbeddedPostgres } = await import('./dev/embedded-postgres/embedded-postgres.js');
      const { migrate } = await import('./migrate.js');
      embedded = await startEmbeddedPostgres({ stateDir: config.stateDir, log: console.log });
      await migrate(embedded.url);
      config = { ...config, DATABASE_URL: embedded.url };
    }
    const address = addressOf(config);
    if (address !== null) await tryAddress(address);
    const { createApp } = await import('./create-app.js');
    app = await createApp(config);
    const url = address === null ? await app.init().then(() => null) : await listen(app, address);
    growYoungGeneration(true);
    const { announce } = await import('./announce.js');
    announce(app, config, url);
    if (url === null || config.isProduction || config.role === Role.Worker) return;
    const { greet } = await import('./greet.js');
    await greet({ app, config, url, embedded, isStopping: () => stopping !== null });
  };

  const opening = open().catch(async (error: unknown) => {
    await close().catch(() => undefined);
    throw error;
  });

  const stop = async (): Promise<void> => {
    compileNothingMore();
    // Whatever hangs, the process ends: what it leaves is taken up by the others.
    setTimeout(() => process.exit(1), config.DRAIN_TIMEOUT_MS + CLOSE_TIMEOUT_MS).unref();
    await opening; // what is half open cannot be closed, and a database that comes up would be left running
    await close();
    await sleep(COMPILED_WITHIN_MS);
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

start().catch(async (error: unknown) => {
  compileNothingMore();
  const isForPeople = error instanceof StartError || error instanceof ConfigError;
  console.error(isForPeople ? error.message : error);
  await sleep(COMPILED_WITHIN_MS);
  process.exit(1);
});
