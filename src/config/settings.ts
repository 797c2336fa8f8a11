import { z } from 'zod';
import {
  acceptedTokens,
  blankToUndefined,
  databaseUrl,
  flag,
  headers,
  hosts,
  integer,
  key,
  list,
  modelName,
  modelServerUrl,
  optional,
  optionalInteger,
  PreparedStatements,
  publicKeys,
  rate,
  text,
  url,
} from './setting-types.js';

/**
 * Every setting of the product, once: its type, limits and default, and the sentence that documents it. The tables of
 * deploy/settings.md and the file .env.example are written from here (`npm run docs:settings`), in this order.
 *
 * A description is Markdown on one line. `example` is what .env.example shows of a setting that has no default.
 * `secretOf` names the processes that need a secret: docker-compose.yml keeps it from the others.
 */

/** What is started apart, and may be given other secrets than the rest. */
export type Part = 'api' | 'worker' | 'migrate';

/** Longest setting in milliseconds that a Node.js timer can hold is 2^31 - 1; a day is ample. */
const DAY_MS = 86_400_000;

const sections = {
  Process: {
    NODE_ENV: z
      .preprocess(
        blankToUndefined,
        z
          .enum(['development', 'production', 'test'], {
            error: 'must be development, production or test',
          })
          .default('development'),
      )
      .describe(
        '`development`, `production` or `test`; production asks for a database, Clerk and a model, and prints no tokens',
      ),
    GIT_COMMIT: text().meta({
      description:
        'Commit that the product was built from, shown to operators; without it that of Railway (`RAILWAY_GIT_COMMIT_SHA`), or of the clone',
      example: '0123abc',
    }),
    HOST: z
      .preprocess(blankToUndefined, z.string().trim().default('127.0.0.1'))
      .describe('Address to listen on; `0.0.0.0` for all, as in a container'),
    PORT: integer(3000, 0, 65_535).describe('Port of the api; 0 takes any free one'),
    WORKER_HEALTH_PORT: integer(3001, 0, 65_535).describe(
      "Port of a worker's health checks and metrics, where it runs apart; 0: none. Each worker on one machine needs its own",
    ),
    LOG_LEVEL: z
      .preprocess(
        blankToUndefined,
        z
          .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
            error: 'must be fatal, error, warn, info, debug, trace or silent',
          })
          .default('info'),
      )
      .describe('`fatal`, `error`, `warn`, `info`, `debug`, `trace` or `silent`'),
    DRAIN_TIMEOUT_MS: integer(20_000, 0, 600_000).describe(
      'How long a process that stops waits for its running replies before it hands them to another worker',
    ),
  },
  Traces: {
    OTEL_EXPORTER_OTLP_ENDPOINT: url('http:', 'https:').meta({
      description:
        'Collector of traces, OTLP over HTTP, without `/v1/traces`; without it there are no traces',
      example: 'http://localhost:4318',
    }),
    OTEL_EXPORTER_OTLP_HEADERS: headers().meta({
      description: 'Headers for the collector: `name=value`, separated by commas, percent-encoded',
      example: 'api-key=...',
      secretOf: ['api', 'worker'],
    }),
    OTEL_SERVICE_NAME: text().meta({
      description:
        'Name in the traces; without it `assistly-api`, `assistly-worker`, or `assistly` for both in one',
      example: 'assistly',
    }),
    OTEL_TRACES_SAMPLER_ARG: z
      .preprocess(
        blankToUndefined,
        z.coerce
          .number({ error: 'must be a number' })
          .min(0, 'must be at least 0')
          .max(1, 'must be at most 1')
          .default(1),
      )
      .describe(
        'Part of the traces that is sent, 0 to 1; a caller that sends a `traceparent` has decided already',
      ),
  },
  'Database and queue': {
    DATABASE_URL: databaseUrl().meta({
      description:
        'PostgreSQL 15 or newer, through a transaction pooler only with `REDIS_URL`, TLS and all else as libpq reads the URL; without it an embedded one, for `npm start` only',
      example: 'postgres://user:password@localhost:5432/assistly',
      secretOf: ['api', 'worker', 'migrate'],
    }),
    DATABASE_MIGRATION_URL: databaseUrl().meta({
      description:
        'The same database for `npm run db:migrate`, where `DATABASE_URL` leads through a transaction pooler; read by nothing else',
      example: 'postgres://user:password@localhost:5432/assistly',
      secretOf: ['migrate'],
    }),
    DATABASE_POOL_MAX: integer(10, 2, 1000).describe(
      'Most connections of one process to PostgreSQL, not counting those of queue and event stream',
    ),
    DATABASE_PREPARED_STATEMENTS: z
      .preprocess(
        blankToUndefined,
        z
          .enum(PreparedStatements, {
            error: `must be one of ${Object.values(PreparedStatements).join(', ')}`,
          })
          .default(PreparedStatements.Auto),
      )
      .describe(
        'Whether PostgreSQL parses each statement only once a connection: `auto`, `on`, `off`; `auto` is `off` where a pooler stands between, of which not all can',
      ),
    REDIS_URL: url('redis:', 'rediss:').meta({
      description: 'Redis for queue and event stream; without it PostgreSQL does both',
      example: 'redis://localhost:6379',
      secretOf: ['api', 'worker'],
    }),
    REDIS_SENTINELS: hosts().meta({
      description:
        'Sentinels that know which Redis is the primary, separated by commas; user, password, database and TLS are those of `REDIS_URL`, whose host is then not used',
      example: 'sentinel-1:26379,sentinel-2:26379,sentinel-3:26379',
    }),
    REDIS_SENTINEL_MASTER: z
      .preprocess(blankToUndefined, z.string().trim().default('mymaster'))
      .describe('Name that the Sentinels know the primary by'),
    REDIS_SENTINEL_PASSWORD: text().meta({
      description: 'Password of the Sentinels',
      example: '...',
      secretOf: ['api', 'worker'],
    }),
    REDIS_CLUSTER_NODES: hosts().meta({
      description:
        'Some nodes of a Redis Cluster, separated by commas, which name the others; user, password and TLS are those of `REDIS_URL`, whose host is then not used',
      example: 'redis-1:6379,redis-2:6379,redis-3:6379',
    }),
    REDIS_PREFIX: z
      .preprocess(
        blankToUndefined,
        z
          .string()
          .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, dashes or underscores')
          .default('assistly'),
      )
      .describe('First part of every key in Redis, so that several installations can share one'),
  },
  Model: {
    OPENAI_API_KEY: key().meta({
      description:
        "Key of the model's server; without key and base URL replies are sentences of the characteristics",
      example: 'sk-...',
      secretOf: ['worker'],
    }),
    OPENAI_BASE_URL: modelServerUrl().meta({
      description: "Address of an OpenAI-compatible server, up to and with `/v1`; without it OpenAI's own",
      example: 'http://localhost:11434/v1',
    }),
    OPENAI_MODEL: z
      .preprocess(blankToUndefined, modelName().default('gpt-5-mini'))
      .describe('Model of the chatbots that name none of their own'),
    ALLOWED_MODELS: list().meta({
      description:
        'Models that owners may name for their chatbots, separated by commas, beside `OPENAI_MODEL`; `*` for any; without it the configured ones. A chatbot that names another is answered by `OPENAI_MODEL`. Give it, and those, to api and worker',
      example: 'gpt-5-mini,gpt-5',
    }),
    OPENAI_FALLBACK_MODEL: optional(modelName()).meta({
      description: 'Model that answers when the first one fails; without it there is no fallback',
      example: 'gpt-4.1-mini',
    }),
    OPENAI_FALLBACK_BASE_URL: modelServerUrl().meta({
      description: "Server of the fallback model; without it the same as the first one's",
      example: 'https://api.example.com/v1',
    }),
    OPENAI_FALLBACK_API_KEY: key().meta({
      description: "Key of the fallback's server; without it, and on the same server, the first one's",
      example: 'sk-...',
      secretOf: ['worker'],
    }),
    LLM_CONNECT_TIMEOUT_MS: integer(5_000, 100, DAY_MS).describe(
      "Longest wait for a connection to the model's server",
    ),
    LLM_FIRST_TOKEN_TIMEOUT_MS: integer(30_000, 100, DAY_MS).describe(
      'Longest wait for the first text, or for the first sign that the model thinks',
    ),
    LLM_THINKING_TIMEOUT_MS: integer(120_000, 100, DAY_MS).describe(
      'Longest wait for the first text of a model that shows that it thinks; silence meanwhile is bounded as between two pieces of text',
    ),
    LLM_THINKS_FIRST_MODELS: list().meta({
      description:
        'Models, separated by commas, whose answers begin inside a thought that only ends (`</think>` without `<think>`), as some servers send them; without it such a thought is shown',
      example: 'deepseek-r1,qwq-32b',
    }),
    LLM_IDLE_TIMEOUT_MS: integer(20_000, 100, DAY_MS).describe('Longest silence between two pieces of text'),
    LLM_TOTAL_TIMEOUT_MS: integer(120_000, 100, DAY_MS).describe('Longest whole call'),
    HTTP_PROXY: url('http:', 'https:', 'socks5:').meta({
      description:
        "Proxy between a worker and a model's server at `http://`; may hold a user and a password. In lower case, too",
      example: 'http://proxy.example.com:3128',
      secretOf: ['worker'],
    }),
    HTTPS_PROXY: url('http:', 'https:', 'socks5:').meta({
      description: 'The same for a server at `https://`',
      example: 'http://proxy.example.com:3128',
      secretOf: ['worker'],
    }),
    NO_PROXY: text().meta({
      description: 'Hosts, separated by commas, that are reached without a proxy',
      example: 'localhost,127.0.0.1,.internal',
    }),
    CONTEXT_MAX_TOKENS: integer(16_000, 500, 2_000_000).describe(
      'Most tokens of a prompt; older messages that do not fit are left out, and characteristics that fit the question least. An api tells owners by it whether theirs all fit: give it the same',
    ),
  },
  Replies: {
    REPLY_CONCURRENCY: integer(50, 1, 1000).describe('Replies that one worker generates at the same time'),
    REPLY_SHARE_OF_CHATBOT: integer(80, 1, 100).describe(
      'Most that one chatbot may have of those, in percent, so that others find a place free however many ask it at once',
    ),
    REPLY_SHARE_OF_OWNER: integer(90, 1, 100).describe(
      'Most that all chatbots of one owner may have of them',
    ),
    REPLY_ATTEMPTS: integer(4, 1, 20).describe(
      'Failed attempts after which a reply fails; with a fallback, as many of that one too',
    ),
    REPLY_MAX_AGE_MS: integer(600_000, 1_000, DAY_MS).describe(
      'Longest that a reply may take, all attempts together, from when it became first in its session',
    ),
    REPLY_MAX_CHARS: integer(32_000, 100, 1_000_000).describe(
      'Longest reply, in UTF-16 units; a longer one is cut there, with the finish reason `length`',
    ),
  },
  Limits: {
    LIMITS_ENABLED: flag(true).describe(
      '`false` turns off the limits below up to `LIMIT_LONG_POLLS`, what chatbots say of them, and the wait after five wrong passwords of the operator, for load tests, and where something in front does that; chatbots of an owner, the bounds of a reply and of a session, budgets and shares of a worker stay',
    ),
    LIMIT_SESSIONS_PER_ADDRESS: rate(300, 3_600).describe(
      'Sessions opened from one address, as `number/seconds`; an IPv6 address counts by its /64, and eight times as many by its /48',
    ),
    LIMIT_SESSIONS_PER_CHATBOT: rate(6_000, 3_600).describe('Sessions opened with one chatbot'),
    LIMIT_MESSAGES_PER_SESSION: rate(60, 60).describe('Messages posted to one session'),
    LIMIT_MESSAGES_PER_ADDRESS: rate(600, 60).describe('Messages posted by guests from one address'),
    LIMIT_MESSAGES_PER_CHATBOT: rate(3_000, 60).describe('Messages posted to all sessions of one chatbot'),
    LIMIT_UNANSWERED_PER_SESSION: rate(30, 600).describe(
      'Messages of one session that wait for an answer, of those that were posted in so many seconds',
    ),
    LIMIT_ACTIONS_PER_SESSION: rate(60, 60).describe('Replies of one session stopped or asked for again'),
    LIMIT_OWNER_WRITES: rate(600, 60).describe('Requests of one owner that write, messages aside'),
    LIMIT_STREAMS_PER_SESSION: integer(50, 1, 100_000).describe(
      'Event streams of one session that are open at once',
    ),
    LIMIT_STREAMS_PER_ADDRESS: integer(1_000, 1, 100_000).describe(
      "Event streams that are open at once from one address, owners' aside; of IPv6 as above",
    ),
    LIMIT_LONG_POLLS: integer(20, 1, 100_000).describe(
      'Requests of one session that wait for a reply at once (`?wait=`)',
    ),
    LIMITS_OF_CHATBOT_FACTOR: integer(10, 1, 1_000).describe(
      'How many times these an owner may allow for a chatbot (`limits`), in the same time',
    ),
    LIMIT_CHATBOTS_PER_OWNER: integer(1_000, 1, 1_000_000).describe(
      'Most chatbots of one owner (409 `limit_reached`)',
    ),
    RETENTION_DAYS_MAX: optionalInteger(1, 36_500).meta({
      description:
        'Days after which a session without activity is erased, at the latest; an owner may say fewer for a chatbot (`retentionDays`). Without it sessions stay for as long as owners want',
      example: '365',
    }),
    DAILY_TOKEN_BUDGET: optionalInteger(0, 2_000_000_000).meta({
      description:
        'Tokens that a chatbot may use in a UTC day, in and out, where its owner says nothing (`dailyTokenBudget`); without it as many as it takes',
      example: '1000000',
    }),
    DAILY_TOKEN_BUDGET_MAX: optionalInteger(0, 2_000_000_000).meta({
      description: 'The most that an owner may allow a chatbot',
      example: '10000000',
    }),
    LIMIT_REPLY_MESSAGES: integer(20, 1, 1_000).describe(
      'Most messages that one reply answers: beyond, no message joins a reply that is queued (429 `reply_full`)',
    ),
    LIMIT_REPLY_CHARS: integer(40_000, 8_000, 1_000_000).describe(
      'Most characters of the messages that one reply answers',
    ),
    LIMIT_SESSION_MESSAGES: integer(2_000, 10, 1_000_000).describe(
      'Most messages of a session, answers included: beyond, nothing more can be posted to it (409 `session_full`)',
    ),
    LIMIT_SESSION_CHARS: integer(4_000_000, 100_000, 1_000_000_000).describe(
      'Most characters of the messages of a session, answers included',
    ),
  },
  Access: {
    CLERK_JWT_KEY: publicKeys().meta({
      description:
        "PEM public key of the Clerk instance, also with `\\n` for its line breaks: owners' tokens are verified without the network. While Clerk changes its key, the old and the new one after the other",
      example: '"-----BEGIN PUBLIC KEY-----\\n...\\n-----END PUBLIC KEY-----"',
    }),
    CLERK_SECRET_KEY: text().meta({
      description: "Clerk's secret key, instead of the public one: the keys are fetched from Clerk",
      example: 'sk_live_...',
      secretOf: ['api'],
    }),
    CLERK_WEBHOOK_SECRET: text().meta({
      description:
        "Signing secret of Clerk's webhook for `user.deleted`, at `/v1/webhooks/clerk`: an owner who is deleted there is erased here; without it there is no such route",
      example: 'whsec_...',
      secretOf: ['api'],
    }),
    CLERK_AUTHORIZED_PARTIES: list().meta({
      description:
        "Origins that owners' tokens must have been made for (`azp`), separated by commas; without it any",
      example: 'https://app.example.com',
    }),
    CLERK_ACCEPTED_TOKENS: acceptedTokens().meta({
      description:
        "Kinds of Clerk's tokens that an owner may be known by, separated by commas: `session`, `oauth` (an application's, for a user), `machine`; only JWTs can be verified. Without it only sessions",
      example: 'session,oauth',
    }),
    SESSION_TOKEN_TTL_DAYS: integer(30, 1, 3_650).describe(
      "Days after which a guest's session token ends that was not used",
    ),
    BULL_BOARD_USER: text().meta({
      description:
        "User of the queue board, `/admin/queues`; without it `operator` with a password of the clone's own, and in production no board",
      example: 'operator',
    }),
    BULL_BOARD_PASSWORD: text().meta({
      description: 'Password of the queue board',
      example: '...',
      secretOf: ['api', 'worker'],
    }),
    DOCS_IN_PRODUCTION: flag(false).describe('`true` serves `/docs` and `/openapi.json` in production, too'),
    METRICS_TOKEN: text().meta({
      description:
        'Bearer token with which Prometheus reads `/metrics`; without it open to all, in production to nobody',
      example: '...',
      secretOf: ['api', 'worker'],
    }),
    PUBLIC_URL: url('http:', 'https:').meta({
      description:
        "Address that browsers know the api by: its own pages' origin. Without it the host that each request names, behind `TRUST_PROXY`",
      example: 'https://chat.example.com',
    }),
    CORS_ORIGINS: list().meta({
      description:
        "Origins whose pages may call the API with an owner's token from a browser, separated by commas: scheme, host and port, or `https://*.example.com`; `*` for all; without it none but the api's own. Guests' pages are a chatbot's `allowedOrigins`",
      example: 'https://app.example.com',
    }),
    TRUST_PROXY: text().meta({
      description:
        'Number of proxies in front, or their addresses, separated by commas, whose `X-Forwarded-For` is believed; without it whoever connects is the caller',
      example: '1',
    }),
  },
};

/** All settings, by the name of their variable. */
export const schema = z.object({
  ...sections.Process,
  ...sections.Traces,
  ...sections['Database and queue'],
  ...sections.Model,
  ...sections.Replies,
  ...sections.Limits,
  ...sections.Access,
});

/** A setting as documents show it. */
export interface DocumentedSetting {
  name: string;
  /** The heading that it stands under. */
  section: string;
  /** Markdown, on one line. */
  description: string;
  /** As it is written; null where there is none. */
  default: string | null;
  /** A value to show where there is no default. */
  example: string | null;
  /** Who needs it, where it is a secret or may hold one; empty where it is none. */
  secretOf: readonly Part[];
}

export const SETTINGS: readonly DocumentedSetting[] = Object.entries(sections).flatMap(
  ([section, settings]) =>
    Object.entries<z.ZodType>(settings).map(([name, type]) => {
      const { description = '', example, secretOf } = type.meta() ?? {};
      const value = type.parse(undefined);
      return {
        name,
        section,
        description,
        default: value === undefined || Array.isArray(value) ? null : String(value),
        example: typeof example === 'string' ? example : null,
        secretOf: Array.isArray(secretOf) ? secretOf : [],
      };
    }),
);
