import { isIP } from 'node:net';
import type { z } from 'zod';
import { errorCode } from '../runtime/error-code.js';
import { originProblem } from '../runtime/origins.js';
import { schema } from './settings.js';

/**
 * The one reader of `process.env`. Every setting is validated at start, and every wrong or missing one is
 * named at once; the rest of the code receives a typed {@link Config}.
 */

/** What a process does: `all` is api and worker in one (`npm start`). */
export const Role = { Api: 'api', Worker: 'worker', All: 'all' } as const;
export type Role = (typeof Role)[keyof typeof Role];

/** The validated settings. Names and units are those of the variables in `.env.example`. */
export type Config = z.infer<typeof schema> & {
  role: Role;
  isProduction: boolean;
  /** Where the process keeps what it makes for itself: local keys, the embedded database's place. */
  stateDir: string;
};

/** Everything that is wrong with the environment, one sentence a variable. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(`The configuration is not usable:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
  }
}

/**
 * How many attempts of a reply may fail before the reply does: REPLY_ATTEMPTS of the first model and, where there
 * is a second, as many of that one.
 */
export function attemptBudget(config: Pick<Config, 'REPLY_ATTEMPTS' | 'OPENAI_FALLBACK_MODEL'>): number {
  return config.REPLY_ATTEMPTS * (config.OPENAI_FALLBACK_MODEL === undefined ? 1 : 2);
}

/** `trust proxy` as Express takes it: a number of hops, or a list of addresses; never "trust everyone". */
export function parseTrustProxy(value: string | undefined): number | string[] | false {
  if (value === undefined) return false;
  if (/^\d+$/.test(value)) return Number(value);
  return value.split(',').map((item) => item.trim());
}

/** An address, a network, or one of Express's names for private ones. */
function isProxyAddress(text: string): boolean {
  if (['loopback', 'linklocal', 'uniquelocal'].includes(text)) return true;
  const [address = '', prefix, ...rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128));
}

function problemsAcrossVariables(config: Omit<Config, 'stateDir'>): string[] {
  const problems: string[] = [];
  const runsApi = config.role !== Role.Worker;
  const runsWorker = config.role !== Role.Api;
  const hasModel = config.OPENAI_API_KEY !== undefined || config.OPENAI_BASE_URL !== undefined;
  if (config.DATABASE_URL === undefined) {
    if (config.role !== Role.All) {
      problems.push(
        `DATABASE_URL is missing: the ${config.role} runs apart from the other processes and can only meet them in a PostgreSQL (15 or newer) of its own; without one, use "npm start", which runs api and worker in one process on an embedded PostgreSQL`,
      );
    } else if (config.isProduction) {
      problems.push('DATABASE_URL is missing: the embedded PostgreSQL is not for production');
    }
    if (config.REDIS_URL !== undefined) {
      problems.push(
        'REDIS_URL is set without DATABASE_URL: Redis carries the jobs, the rows need PostgreSQL',
      );
    }
  }
  const hasSentinels = config.REDIS_SENTINELS.length > 0;
  const hasCluster = config.REDIS_CLUSTER_NODES.length > 0;
  for (const name of ['REDIS_SENTINELS', 'REDIS_CLUSTER_NODES'] as const) {
    // Where they are wrong, their text stands in for them.
    if (config.REDIS_URL === undefined && config[name].length > 0 && Array.isArray(config[name])) {
      problems.push(
        `${name} is set without REDIS_URL: the URL says the user, the password and whether there is TLS, such as redis://:password@redis`,
      );
    }
  }
  if (hasSentinels && hasCluster) {
    problems.push(
      'REDIS_SENTINELS and REDIS_CLUSTER_NODES are both set: a Redis Cluster looks after its primaries itself',
    );
  }
  const redis = URL.parse(config.REDIS_URL ?? '');
  const redisDatabase = redis?.searchParams.get('db') ?? redis?.pathname.slice(1) ?? '';
  if (hasCluster && Number(redisDatabase) !== 0) {
    problems.push(
      `REDIS_URL names the database ${redisDatabase}, and a Redis Cluster (REDIS_CLUSTER_NODES) has only 0`,
    );
  }
  if (!hasSentinels && config.REDIS_SENTINEL_PASSWORD !== undefined) {
    problems.push('REDIS_SENTINEL_PASSWORD is set without REDIS_SENTINELS');
  }
  if (config.isProduction) {
    if (runsApi && config.CLERK_JWT_KEY === undefined && config.CLERK_SECRET_KEY === undefined) {
      problems.push(
        'CLERK_JWT_KEY or CLERK_SECRET_KEY is missing: in production owners sign in with Clerk; CLERK_JWT_KEY is the PEM public key of the Clerk instance',
      );
    }
    if (runsWorker && !hasModel) {
      problems.push(
        'OPENAI_API_KEY or OPENAI_BASE_URL is missing: in production a worker needs a model; a local OpenAI-compatible server needs only OPENAI_BASE_URL',
      );
    }
  }
  if (config.isProduction) problems.push(...weaknesses(config));
  if (
    config.OPENAI_FALLBACK_MODEL === undefined &&
    (config.OPENAI_FALLBACK_BASE_URL !== undefined || config.OPENAI_FALLBACK_API_KEY !== undefined)
  ) {
    problems.push('OPENAI_FALLBACK_MODEL is missing: the other OPENAI_FALLBACK_ settings belong to it');
  }
  if (runsWorker && config.OPENAI_FALLBACK_MODEL !== undefined && !hasModel) {
    problems.push(
      'OPENAI_FALLBACK_MODEL is set without a first model: set OPENAI_API_KEY or OPENAI_BASE_URL, or make it OPENAI_MODEL',
    );
  }
  if ((config.BULL_BOARD_USER === undefined) !== (config.BULL_BOARD_PASSWORD === undefined)) {
    problems.push('BULL_BOARD_USER and BULL_BOARD_PASSWORD belong together: set both or neither');
  }
  const trusted = parseTrustProxy(config.TRUST_PROXY);
  if (Array.isArray(trusted) && !trusted.every(isProxyAddress)) {
    problems.push(
      'TRUST_PROXY must be the number of proxies in front, or a comma-separated list of their addresses (10.0.0.1, 10.0.0.0/8, loopback, linklocal, uniquelocal): trusting everyone would let clients choose their own address',
    );
  }
  for (const origin of config.CORS_ORIGINS) {
    const problem = origin === '*' ? null : originProblem(origin);
    if (problem !== null)
      problems.push(`CORS_ORIGINS holds "${origin}", which can match no page: it ${problem}`);
  }
  return problems;
}

/** Shorter secrets are guessed. */
const MIN_SECRET_CHARS = 12;

/** What would work in production, and is no protection. */
function weaknesses(config: Omit<Config, 'stateDir'>): string[] {
  const problems: string[] = [];
  for (const name of ['BULL_BOARD_PASSWORD', 'METRICS_TOKEN'] as const) {
    const secret = config[name];
    if (secret !== undefined && secret.length < MIN_SECRET_CHARS) {
      problems.push(
        `${name} must have ${MIN_SECRET_CHARS} characters or more in production: make one with "openssl rand -hex 24"`,
      );
    }
  }
  if (config.CLERK_SECRET_KEY !== undefined && !/^sk_(?:live|test)_\S+$/.test(config.CLERK_SECRET_KEY)) {
    problems.push('CLERK_SECRET_KEY is no secret key of Clerk, which begins with sk_live_ or sk_test_');
  }
  if (
    config.CLERK_WEBHOOK_SECRET !== undefined &&
    !/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/.test(config.CLERK_WEBHOOK_SECRET)
  ) {
    problems.push(
      'CLERK_WEBHOOK_SECRET is no signing secret of Clerk, which begins with whsec_: whoever guesses it could erase owners',
    );
  }
  const trusted = parseTrustProxy(config.TRUST_PROXY);
  if (Array.isArray(trusted) && trusted.some((network) => /\/0*$/.test(network))) {
    problems.push(
      'TRUST_PROXY holds a network of all addresses: whoever connects could say to be anybody; name the proxies',
    );
  }
  return problems;
}

function fieldByField(env: NodeJS.ProcessEnv): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(schema.shape).map(([name, type]) => {
      const { success, data } = type.safeParse(env[name]);
      return [name, success ? data : env[name]];
    }),
  );
}

/**
 * Reads and validates the settings for a role.
 *
 * @throws {@link ConfigError} naming every variable that is wrong or missing
 */
export function loadConfig(role: Role, env: NodeJS.ProcessEnv = process.env, stateDir = STATE_DIR): Config {
  const parsed = schema.safeParse(withAliases(env));
  const problems = (parsed.error?.issues ?? []).map((issue) => {
    const name = String(issue.path[0]);
    // The value of a key or a URL with a password never goes into a message.
    const shown = /KEY|PASSWORD|TOKEN|URL|ENDPOINT|HEADERS|PROXY|SENTINELS|NODES/.test(name)
      ? ''
      : `, not "${String(env[name])}"`;
    return `${name} ${issue.message}${shown}`;
  });
  // A variable that is wrong is not also missing: there its text stands in for the value.
  const values = parsed.data ?? (fieldByField(env) as z.infer<typeof schema>);
  const config = { ...values, role, isProduction: values.NODE_ENV === 'production' };
  problems.push(...problemsAcrossVariables(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return { ...config, stateDir };
}

/**
 * What others call some of our settings. The proxies' names are everybody's, and mostly written in lower case, which wins
 * where both are set; the commit is a host's, where ours says nothing.
 */
function withAliases(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { http_proxy, https_proxy, no_proxy, GIT_COMMIT, RAILWAY_GIT_COMMIT_SHA } = env;
  return {
    ...env,
    HTTP_PROXY: http_proxy ?? env['HTTP_PROXY'],
    HTTPS_PROXY: https_proxy ?? env['HTTPS_PROXY'],
    NO_PROXY: no_proxy ?? env['NO_PROXY'],
    GIT_COMMIT: GIT_COMMIT?.trim() || RAILWAY_GIT_COMMIT_SHA,
  };
}

/** How the name of a setting ends that holds a secret. */
const SECRET = /_(KEY|PASSWORD|SECRET|TOKEN|HEADERS)$/;

/** The values of all secrets, for what must not show them. */
export function secretsOf(config: Config): string[] {
  return Object.entries(config)
    .filter(([name]) => SECRET.test(name))
    .flatMap(([, value]) => (typeof value === 'object' ? Object.values(value) : [value]))
    .filter((value) => typeof value === 'string');
}

/**
 * The database that the ORM's command line works on, if its URL is one: this is read whenever the ORM's configuration is
 * loaded, also by those who then refuse a wrong one.
 */
export function databaseUrlForTools(): string | undefined {
  const { DATABASE_MIGRATION_URL, DATABASE_URL } = process.env;
  return schema.shape.DATABASE_URL.safeParse(DATABASE_MIGRATION_URL || DATABASE_URL).data;
}

/**
 * The database to migrate.
 *
 * @throws {@link ConfigError} where none is named, or where it is no URL of a PostgreSQL
 */
export function databaseUrlToMigrate(env: NodeJS.ProcessEnv = process.env): string {
  for (const name of ['DATABASE_MIGRATION_URL', 'DATABASE_URL'] as const) {
    const { data, error } = schema.shape[name].safeParse(env[name]);
    if (error) throw new ConfigError(error.issues.map((issue) => `${name} ${issue.message}`));
    if (data !== undefined) return data;
  }
  throw new ConfigError(['DATABASE_URL is missing: the URL of the PostgreSQL database to migrate']);
}

/** Where a process of this machine with these settings answers health checks: as an api, else as a worker. */
export function healthOrigins(env: NodeJS.ProcessEnv = process.env): string[] {
  const { HOST, PORT, WORKER_HEALTH_PORT } = fieldByField(env) as z.infer<typeof schema>;
  // An address to listen on that means "all" is none to connect to.
  const host = HOST === '0.0.0.0' || HOST === '::' ? '127.0.0.1' : HOST;
  const address = isIP(host) === 6 ? `[${host}]` : host;
  return [PORT, WORKER_HEALTH_PORT].filter((port) => port !== 0).map((port) => `http://${address}:${port}`);
}

/** Takes over the variables of a `.env` file in the working directory, where there is one; set ones win. */
export function loadEnvFile(): void {
  try {
    process.loadEnvFile();
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** Why an owner token signed with the clone's own key would not be accepted; null where it would. */
export function localTokensRefusal(env: NodeJS.ProcessEnv = process.env): string | null {
  if (env['NODE_ENV'] === 'production') return 'NODE_ENV is production: owners sign in with Clerk';
  if (env['CLERK_JWT_KEY']?.trim() || env['CLERK_SECRET_KEY']?.trim())
    return 'Clerk is configured: owners sign in with it';
  return null;
}

/** Where a process keeps what it makes for itself, relative to the working directory. */
export const STATE_DIR = '.assistly';
