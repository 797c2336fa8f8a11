import { type INestApplicationContext, Logger } from '@nestjs/common';
import { parseDatabaseUrl } from './config/database-url.js';
import { type Config, Role } from './config/env.js';
import { BuildInfo } from './operations/build-info.js';
import { PROCESS_NAME } from './runtime/process-name.js';

/**
 * Logs what has started, with what it was told to use: the first line to look at.
 *
 * @param url where it listens; null: nowhere
 */
export function announce(app: INestApplicationContext, config: Config, url: string | null): void {
  const { version, commit } = app.get(BuildInfo, { strict: false });
  const logger = new Logger('Process');
  logger.log(
    {
      event: 'process.started',
      role: config.role,
      version,
      commit,
      process: PROCESS_NAME,
      address: url,
      database: databaseHosts(config.DATABASE_URL),
      queue: queueOf(config),
      // Each may be without what only the other uses: "none" would be no news of the installation.
      model: config.role === Role.Api ? undefined : modelOf(config),
      clerk: config.role === Role.Worker ? undefined : clerkOf(config),
    },
    `the ${config.role === 'all' ? 'api and worker' : config.role} of version ${version} has started`,
  );
}

/** Without a user or a password. */
const databaseHosts = (url: string | undefined): string =>
  url === undefined
    ? 'none'
    : parseDatabaseUrl(url)
        .hosts.map(({ host, port }) => `${host}:${port}`)
        .join(',');

function queueOf({ REDIS_URL, REDIS_SENTINELS, REDIS_CLUSTER_NODES }: Config): string {
  if (REDIS_URL === undefined) return 'postgres';
  if (REDIS_CLUSTER_NODES.length > 0) return 'redis cluster';
  return REDIS_SENTINELS.length > 0 ? 'redis by sentinels' : 'redis';
}

const modelOf = ({ OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_MODEL }: Config): string =>
  OPENAI_API_KEY === undefined && OPENAI_BASE_URL === undefined ? 'none' : OPENAI_MODEL;

function clerkOf({ CLERK_JWT_KEY, CLERK_SECRET_KEY }: Config): string {
  if (CLERK_JWT_KEY !== undefined) return 'by CLERK_JWT_KEY';
  return CLERK_SECRET_KEY === undefined ? 'none' : 'by CLERK_SECRET_KEY';
}
