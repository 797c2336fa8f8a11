import { z } from 'zod';
import { errorCode } from '../common/error-code.js';

/**
 * The one reader of `process.env`. Every setting is validated at start, and every wrong or missing one is
 * named at once; the rest of the code receives a typed {@link Config}.
 */

/** What a process does: `all` is api and worker in one (`npm start`). */
export const Role = { Api: 'api', Worker: 'worker', All: 'all' } as const;
export type Role = (typeof Role)[keyof typeof Role];

const blankToUndefined = (value: unknown): unknown =>
  typeof value === 'string' && value.trim() === '' ? undefined : value;

/** A variable that is set to nothing counts as not set, as in a copied `.env.example`. */
const optional = <T extends z.ZodType>(type: T) => z.preprocess(blankToUndefined, type.optional());
const text = () => optional(z.string().trim());
const integer = (fallback: number, min: number, max: number) =>
  z.preprocess(
    blankToUndefined,
    z.coerce
      .number({ error: 'must be a whole number' })
      .int('must be a whole number')
      .min(min, `must be at least ${min}`)
      .max(max, `must be at most ${max}`)
      .default(fallback),
  );
const url = (...protocols: string[]) =>
  optional(
    z
      .string()
      .trim()
      .refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
        error: `must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
      }),
  );
const list = () =>
  z.preprocess(
    blankToUndefined,
    z
      .string()
      .default('')
      .transform((value) =>
        value
          .split(',')
          .map((item) => item.trim())
          .filter((item) => item !== ''),
      ),
  );

/** Longest setting in milliseconds that a Node.js timer can hold is 2^31 - 1; a day is ample. */
const DAY_MS = 86_400_000;

const schema = z.object({
  NODE_ENV: z.preprocess(
    blankToUndefined,
    z
      .enum(['development', 'production', 'test'], {
        error: 'must be development, production or test',
      })
      .default('development'),
  ),
  HOST: z.preprocess(blankToUndefined, z.string().trim().default('127.0.0.1')),
  PORT: integer(3000, 0, 65_535),
  WORKER_HEALTH_PORT: integer(3001, 0, 65_535),
  DATABASE_URL: url('postgres:', 'postgresql:'),
  DATABASE_POOL_MAX: integer(10, 2, 1000),
  REDIS_URL: url('redis:', 'rediss:'),
  REDIS_PREFIX: z.preprocess(
    blankToUndefined,
    z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, dashes or underscores')
      .default('assistly'),
  ),
  OPENAI_API_KEY: text(),
  OPENAI_BASE_URL: url('http:', 'https:'),
  OPENAI_MODEL: z.preprocess(blankToUndefined, z.string().trim().max(255).default('gpt-5-mini')),
  REPLY_CONCURRENCY: integer(50, 1, 1000),
  REPLY_ATTEMPTS: integer(4, 1, 20),
  REPLY_MAX_AGE_MS: integer(600_000, 1_000, DAY_MS),
  REPLY_MAX_CHARS: integer(32_000, 100, 1_000_000),
  LLM_CONNECT_TIMEOUT_MS: integer(5_000, 100, DAY_MS),
  LLM_FIRST_TOKEN_TIMEOUT_MS: integer(30_000, 100, DAY_MS),
  LLM_IDLE_TIMEOUT_MS: integer(20_000, 100, DAY_MS),
  LLM_TOTAL_TIMEOUT_MS: integer(120_000, 100, DAY_MS),
  CONTEXT_MAX_TOKENS: integer(16_000, 500, 2_000_000),
  CLERK_JWT_KEY: text(),
  CLERK_SECRET_KEY: text(),
  CLERK_AUTHORIZED_PARTIES: list(),
  BULL_BOARD_USER: text(),
  BULL_BOARD_PASSWORD: text(),
  CORS_ORIGINS: list(),
  TRUST_PROXY: text(),
  LOG_LEVEL: z.preprocess(
    blankToUndefined,
    z
      .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
        error: 'must be fatal, error, warn, info, debug, trace or silent',
      })
      .default('info'),
  ),
  DRAIN_TIMEOUT_MS: integer(20_000, 0, 600_000),
});

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

/** `trust proxy` as Express takes it: a number of hops, or a list of addresses; never "trust everyone". */
export function parseTrustProxy(value: string | undefined): number | string[] | false {
  if (value === undefined) return false;
  if (/^\d+$/.test(value)) return Number(value);
  return value.split(',').map((item) => item.trim());
}

function problemsAcrossVariables(config: Omit<Config, 'stateDir'>): string[] {
  const problems: string[] = [];
  const runsApi = config.role !== Role.Worker;
  const runsWorker = config.role !== Role.Api;
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
  if (config.isProduction) {
    if (runsApi && config.CLERK_JWT_KEY === undefined && config.CLERK_SECRET_KEY === undefined) {
      problems.push(
        'CLERK_JWT_KEY or CLERK_SECRET_KEY is missing: in production owners sign in with Clerk; CLERK_JWT_KEY is the PEM public key of the Clerk instance',
      );
    }
    if (runsWorker && config.OPENAI_API_KEY === undefined && config.OPENAI_BASE_URL === undefined) {
      problems.push(
        'OPENAI_API_KEY or OPENAI_BASE_URL is missing: in production a worker needs a model; a local OpenAI-compatible server needs only OPENAI_BASE_URL',
      );
    }
  }
  if ((config.BULL_BOARD_USER === undefined) !== (config.BULL_BOARD_PASSWORD === undefined)) {
    problems.push('BULL_BOARD_USER and BULL_BOARD_PASSWORD belong together: set both or neither');
  }
  if (config.TRUST_PROXY !== undefined && /^(true|yes|on|\*)$/i.test(config.TRUST_PROXY)) {
    problems.push(
      'TRUST_PROXY must be the number of proxies in front, or a comma-separated list of their addresses: trusting everyone lets clients choose their own address',
    );
  }
  for (const origin of config.CORS_ORIGINS) {
    if (origin !== '*' && (!URL.canParse(origin) || new URL(origin).origin !== origin)) {
      problems.push(`CORS_ORIGINS holds "${origin}", which is no origin such as https://app.example.com`);
    }
  }
  return problems;
}

/**
 * Reads and validates the settings for a role.
 *
 * @throws {@link ConfigError} naming every variable that is wrong or missing
 */
export function loadConfig(role: Role, env: NodeJS.ProcessEnv = process.env, stateDir = STATE_DIR): Config {
  const parsed = schema.safeParse(env);
  if (!parsed.success) {
    throw new ConfigError(
      parsed.error.issues.map((issue) => {
        const name = String(issue.path[0]);
        // The value of a key or a URL with a password never goes into a message.
        const shown = /KEY|PASSWORD|URL/.test(name) ? '' : `, not "${String(env[name])}"`;
        return `${name} ${issue.message}${shown}`;
      }),
    );
  }
  const config = { ...parsed.data, role, isProduction: parsed.data.NODE_ENV === 'production' };
  const problems = problemsAcrossVariables(config);
  if (problems.length > 0) throw new ConfigError(problems);
  return { ...config, stateDir };
}

/** The database that a command line tool works on, unvalidated: the tool says itself what is wrong with it. */
export function databaseUrlForTools(): string | undefined {
  return process.env['DATABASE_URL'];
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
  if (env['CLERK_JWT_KEY'] || env['CLERK_SECRET_KEY']) return 'Clerk is configured: owners sign in with it';
  return null;
}

/** Where a process keeps what it makes for itself, relative to the working directory. */
export const STATE_DIR = '.assistly';
