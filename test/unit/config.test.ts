import { describe, expect, it } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  ConfigError,
  databaseUrlToMigrate,
  loadConfig,
  localTokensRefusal,
  parseTrustProxy,
  Role,
  secretsOf,
} from '../../src/config/env.js';
import { envExample, withSettingsTables } from '../../src/config/settings-documents.js';
import { SETTINGS } from '../../src/config/settings.js';
import { composeVariables } from '../support/deploy-files.mjs';

const DATABASE_URL = 'postgres://assistly:secret@db.example.com:5432/assistly';
const PEM = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
}).publicKey;
const PRODUCTION = { NODE_ENV: 'production', DATABASE_URL, CLERK_JWT_KEY: PEM, OPENAI_API_KEY: 'sk-1' };

const ON_CLUSTER = { DATABASE_URL, REDIS_URL: 'redis://node', REDIS_CLUSTER_NODES: 'node:6379' };

/** What is wrong with an environment; empty where nothing is. */
function problemsOf(env: Record<string, string>, role: Role = Role.All): readonly string[] {
  try {
    loadConfig(role, env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

describe('the settings', () => {
  it('have a default that serves, each', () => {
    const { role, isProduction, stateDir, ...settings } = loadConfig(Role.All, {});

    expect({ role, isProduction, stateDir }).toEqual({
      role: 'all',
      isProduction: false,
      stateDir: '.assistly',
    });
    // As the documents show them, which are held against the code below.
    const shown = SETTINGS.filter((setting) => setting.default !== null);
    const given = Object.entries(settings).filter(
      ([, value]) => value !== undefined && !Array.isArray(value),
    );
    expect(given.map(([name, value]) => [name, String(value)])).toEqual(
      shown.map((setting) => [setting.name, setting.default]),
    );
  });

  it('count as not set when they are blank, as in a copied .env.example', () => {
    const blank = Object.fromEntries(SETTINGS.map(({ name }) => [name, ' ']));

    expect(loadConfig(Role.All, blank)).toEqual(loadConfig(Role.All, {}));
  });

  it('are read as what they are', () => {
    const config = loadConfig(Role.Api, {
      ...PRODUCTION,
      PORT: ' 8080 ',
      REDIS_URL: 'rediss://:secret@cache.example.com:6380/1',
      CORS_ORIGINS: 'https://a.example.com, http://localhost:5173,',
      CLERK_AUTHORIZED_PARTIES: 'https://a.example.com',
      OTEL_EXPORTER_OTLP_HEADERS: 'api-key=a%20b%3D, tenant=one,',
    });

    expect(config).toMatchObject({
      role: 'api',
      isProduction: true,
      DATABASE_URL,
      PORT: 8080,
      REDIS_URL: 'rediss://:secret@cache.example.com:6380/1',
      CORS_ORIGINS: ['https://a.example.com', 'http://localhost:5173'],
      CLERK_AUTHORIZED_PARTIES: ['https://a.example.com'],
      CLERK_JWT_KEY: [PEM],
      OTEL_EXPORTER_OTLP_HEADERS: { 'api-key': 'a b=', tenant: 'one' },
    });
  });

  it.each([
    ['with line breaks written as \\n', PEM.replaceAll('\n', '\\n')],
    ['on one line', PEM.replaceAll('\n', ' ')],
    ['without its first and last line', PEM.split('\n').slice(1, -2).join('\n')],
  ])('take Clerk’s key %s', (_, key) => {
    expect(loadConfig(Role.Api, { ...PRODUCTION, CLERK_JWT_KEY: key }).CLERK_JWT_KEY).toEqual([PEM]);
  });

  it.each([
    ['NODE_ENV', 'staging', 'must be development, production or test, not "staging"'],
    ['PORT', 'eighty', 'must be a whole number, not "eighty"'],
    ['PORT', '80.5', 'must be a whole number, not "80.5"'],
    ['PORT', 'Infinity', 'must be a whole number, not "Infinity"'],
    ['PORT', '65536', 'must be at most 65535, not "65536"'],
    ['WORKER_HEALTH_PORT', '-1', 'must be at least 0, not "-1"'],
    ['REPLY_CONCURRENCY', '0', 'must be at least 1, not "0"'],
    ['LLM_TOTAL_TIMEOUT_MS', '99999999', 'must be at most 86400000, not "99999999"'],
    ['DATABASE_URL', 'localhost:5432/db', 'must be a URL that starts with postgres:// or postgresql://'],
    ['DATABASE_URL', 'postgres://user:pass/word@host/db', 'special characters in it percent-encoded'],
    ['REDIS_SENTINELS', 'redis://sentinel:26379', 'must be servers as host:port'],
    ['REDIS_SENTINELS', 'sentinel', 'must be servers as host:port'],
    ['REDIS_SENTINELS', 'sentinel:0', 'must be servers as host:port'],
    ['REDIS_SENTINELS', ':secret@sentinel:26379', 'must be servers as host:port'],
    ['REDIS_CLUSTER_NODES', 'redis://node:6379', 'must be servers as host:port'],
    ['REDIS_CLUSTER_NODES', 'node-1:6379,secret@node-2:6379', 'must be servers as host:port'],
    ['REDIS_PREFIX', 'a b', 'must be 1 to 64 letters, digits, dots, dashes or underscores, not "a b"'],
    ['OPENAI_BASE_URL', 'ftp://models', 'must be a URL that starts with http:// or https://'],
    ['OPENAI_MODEL', 'm'.repeat(256), 'must be at most 255 characters long'],
    ['LOG_LEVEL', 'loud', 'must be fatal, error, warn, info, debug, trace or silent, not "loud"'],
    ['CLERK_JWT_KEY', 'pk_test_abc', 'must be the PEM public key of the Clerk instance'],
    ['CORS_ORIGINS', 'https://a.example.com/', 'holds "https://a.example.com/", which can match no page'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4317', 'must be a URL that starts with http:// or https://'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'api-key', 'must be pairs such as "api-key=secret,tenant=one"'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'api-key=%', 'special characters percent-encoded'],
    ['OTEL_TRACES_SAMPLER_ARG', '2', 'must be at most 1, not "2"'],
    ['LIMIT_MESSAGES_PER_SESSION', '60', 'must be a number of at most 8 digits and a time'],
    ['LIMIT_MESSAGES_PER_SESSION', '999999999/60', 'must be a number of at most 8 digits and a time'],
    ['LIMIT_MESSAGES_PER_SESSION', '0/60', 'must be at least 1/1'],
    ['LIMITS_ENABLED', 'no', 'must be true or false'],
    ['TRUST_PROXY', 'true', 'must be the number of proxies in front'],
    ['TRUST_PROXY', '10.0.0.1,proxy', 'must be the number of proxies in front'],
    ['TRUST_PROXY', '10.0.0.0/33', 'must be the number of proxies in front'],
  ])('%s is refused in words (%#)', (name, value, words) => {
    const problems = problemsOf({ [name]: value });

    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^${name} `));
    expect(problems[0]).toContain(words);
  });

  it('are all named at once, wrong and missing ones, and a wrong one is not also missing', () => {
    const problems = problemsOf({
      ...PRODUCTION,
      CLERK_JWT_KEY: 'x',
      DATABASE_URL: 'x',
      PORT: 'x',
      OPENAI_API_KEY: '',
    });

    expect(problems.map((problem) => problem.split(' ', 1).join()).sort()).toEqual([
      'CLERK_JWT_KEY',
      'DATABASE_URL',
      'OPENAI_API_KEY',
      'PORT',
    ]);
  });

  it('are named without the value of a secret', () => {
    const secrets = SETTINGS.map(({ name }) => name).filter((name) =>
      /KEY|PASSWORD|_URL|ENDPOINT|HEADERS/.test(name),
    );
    const env = Object.fromEntries(secrets.map((name) => [name, `canary:// of ${name}`]));

    const problems = problemsOf(env);

    expect(problems.length).toBeGreaterThan(0);
    expect(problems.join()).not.toContain('canary');
  });
});

describe('the commit', () => {
  it.each([
    [{ GIT_COMMIT: 'abc', RAILWAY_GIT_COMMIT_SHA: 'def' }, 'abc'],
    [{ RAILWAY_GIT_COMMIT_SHA: 'def' }, 'def'],
    [{ GIT_COMMIT: ' ', RAILWAY_GIT_COMMIT_SHA: 'def' }, 'def'],
    [{}, undefined],
  ])('of %j is %s', (env, commit) => {
    expect(loadConfig(Role.All, env).GIT_COMMIT).toBe(commit);
  });
});

const WEBHOOK_SECRET = `whsec_${'MfKQ9r8GKYqrTwjU'.repeat(2)}`;

describe('the secrets', () => {
  it('are told by the ends of their names, the headers for the collector included', () => {
    const config = loadConfig(Role.All, {
      ...PRODUCTION,
      METRICS_TOKEN: 'for-prometheus',
      BULL_BOARD_USER: 'operator',
      BULL_BOARD_PASSWORD: 'for-operators',
      OTEL_EXPORTER_OTLP_HEADERS: 'api-key=for-the-collector',
      CLERK_WEBHOOK_SECRET: WEBHOOK_SECRET,
      CONTEXT_MAX_TOKENS: '1000',
    });

    expect(secretsOf(config).sort()).toEqual(
      [PEM, 'for-operators', 'for-prometheus', 'for-the-collector', WEBHOOK_SECRET, 'sk-1'].sort(),
    );
  });
});

describe('what a role needs', () => {
  it.each([Role.Api, Role.Worker])('is a database, as %s', (role) => {
    expect(problemsOf({}, role)).toEqual([expect.stringContaining(`DATABASE_URL is missing: the ${role} `)]);
    expect(problemsOf({ DATABASE_URL }, role)).toEqual([]);
  });

  it('is in production a database, Clerk on the api, and a model on the worker', () => {
    const env = { NODE_ENV: 'production' };
    const names = (role: Role) => problemsOf(env, role).map((problem) => problem.split(' ')[0]);

    expect(names(Role.Api)).toEqual(['DATABASE_URL', 'CLERK_JWT_KEY']);
    expect(names(Role.Worker)).toEqual(['DATABASE_URL', 'OPENAI_API_KEY']);
    expect(names(Role.All)).toEqual(['DATABASE_URL', 'CLERK_JWT_KEY', 'OPENAI_API_KEY']);
    expect(problemsOf(PRODUCTION)).toEqual([]);
  });

  it.each([
    [
      { BULL_BOARD_USER: 'operator', BULL_BOARD_PASSWORD: 'short' },
      'BULL_BOARD_PASSWORD must have 12 characters',
    ],
    [{ METRICS_TOKEN: 'short' }, 'METRICS_TOKEN must have 12 characters'],
    [{ CLERK_SECRET_KEY: 'nonsense' }, 'CLERK_SECRET_KEY is no secret key of Clerk'],
    [{ CLERK_SECRET_KEY: 'pk_live_abcdefghijk' }, 'CLERK_SECRET_KEY is no secret key of Clerk'],
    [{ CLERK_WEBHOOK_SECRET: 'changeme' }, 'CLERK_WEBHOOK_SECRET is no signing secret of Clerk'],
    [{ CLERK_WEBHOOK_SECRET: 'whsec_x' }, 'CLERK_WEBHOOK_SECRET is no signing secret of Clerk'],
    [{ TRUST_PROXY: '0.0.0.0/0' }, 'TRUST_PROXY holds a network of all addresses'],
    [{ TRUST_PROXY: '10.0.0.1, ::/0' }, 'TRUST_PROXY holds a network of all addresses'],
    [{ TRUST_PROXY: '0.0.0.0/00' }, 'TRUST_PROXY holds a network of all addresses'],
  ])('is no protection that is none: %j is refused in production, and told', (weak, words) => {
    expect(problemsOf({ ...PRODUCTION, ...weak })).toEqual([expect.stringContaining(words)]);
    expect(problemsOf({ DATABASE_URL, ...weak })).toEqual([]);
  });

  it('is no key of Clerk that could be broken, also beside a good one', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1_024 });
    const weak = publicKey.export({ type: 'spki', format: 'pem' }) as string;

    for (const key of [weak, PEM + weak]) {
      expect(problemsOf({ ...PRODUCTION, CLERK_JWT_KEY: key })).toEqual([
        expect.stringContaining('CLERK_JWT_KEY must be the PEM public key'),
      ]);
    }
  });

  it('may be two keys of Clerk, one after the other, however a host has folded them', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    const other = publicKey.export({ type: 'spki', format: 'pem' }) as string;

    for (const key of [
      PEM + other,
      (PEM + other).replaceAll('\n', '\\n'),
      `${PEM} ${other}`.replaceAll('\n', ' '),
    ]) {
      expect(loadConfig(Role.Api, { ...PRODUCTION, CLERK_JWT_KEY: key }).CLERK_JWT_KEY).toEqual([PEM, other]);
    }
  });

  it('is met by either of two', () => {
    const { CLERK_JWT_KEY: _, OPENAI_API_KEY: __, ...rest } = PRODUCTION;

    expect(
      problemsOf({ ...rest, CLERK_SECRET_KEY: 'sk_live_1', OPENAI_BASE_URL: 'http://localhost:11434/v1' }),
    ).toEqual([]);
  });

  it.each([
    [{ REDIS_URL: 'redis://localhost' }, 'REDIS_URL is set without DATABASE_URL'],
    [{ REDIS_SENTINELS: 'sentinel:26379' }, 'REDIS_SENTINELS is set without REDIS_URL'],
    [{ REDIS_SENTINEL_PASSWORD: 'secret' }, 'REDIS_SENTINEL_PASSWORD is set without REDIS_SENTINELS'],
    [{ REDIS_CLUSTER_NODES: 'node:6379' }, 'REDIS_CLUSTER_NODES is set without REDIS_URL'],
    [{ BULL_BOARD_USER: 'a' }, 'BULL_BOARD_USER and BULL_BOARD_PASSWORD belong together'],
    [{ BULL_BOARD_PASSWORD: 'a' }, 'BULL_BOARD_USER and BULL_BOARD_PASSWORD belong together'],
    [{ OPENAI_FALLBACK_API_KEY: 'sk-2' }, 'OPENAI_FALLBACK_MODEL is missing'],
    [{ OPENAI_FALLBACK_MODEL: 'small' }, 'OPENAI_FALLBACK_MODEL is set without a first model'],
    [
      { ...ON_CLUSTER, REDIS_SENTINELS: 'sentinel:26379' },
      'REDIS_SENTINELS and REDIS_CLUSTER_NODES are both set',
    ],
    [{ ...ON_CLUSTER, REDIS_URL: 'redis://node/2' }, 'REDIS_URL names the database 2'],
    [{ ...ON_CLUSTER, REDIS_URL: 'redis://node?db=2' }, 'REDIS_URL names the database 2'],
  ])('is told where one setting needs another, or excludes it: %j', (env, words) => {
    expect(problemsOf(env)).toEqual([expect.stringContaining(words)]);
  });
});

describe('the proxies in front', () => {
  it.each([
    ['1', 1],
    ['10.0.0.1', ['10.0.0.1']],
    ['loopback, 10.0.0.0/8,fd00::/8', ['loopback', '10.0.0.0/8', 'fd00::/8']],
  ])('may be %s', (value, parsed) => {
    expect(problemsOf({ TRUST_PROXY: value })).toEqual([]);
    expect(parseTrustProxy(value)).toEqual(parsed);
  });
});

describe('the database to migrate', () => {
  it('has to be named, and to be a PostgreSQL', () => {
    expect(databaseUrlToMigrate({ DATABASE_URL })).toBe(DATABASE_URL);
    const DATABASE_MIGRATION_URL = 'postgres://direct.example.com/assistly';
    expect(databaseUrlToMigrate({ DATABASE_URL, DATABASE_MIGRATION_URL })).toBe(DATABASE_MIGRATION_URL);
    expect(databaseUrlToMigrate({ DATABASE_URL, DATABASE_MIGRATION_URL: '' })).toBe(DATABASE_URL);
    expect(() => databaseUrlToMigrate({ DATABASE_URL, DATABASE_MIGRATION_URL: 'x' })).toThrow(
      'DATABASE_MIGRATION_URL must be a URL',
    );
    expect(() => databaseUrlToMigrate({})).toThrow('DATABASE_URL is missing');
    expect(() => databaseUrlToMigrate({ DATABASE_URL: 'mysql://x' })).toThrow('DATABASE_URL must be a URL');
  });
});

describe('local owner tokens', () => {
  it('are for where Clerk is not configured, and never for production', () => {
    expect(localTokensRefusal({})).toBeNull();
    expect(localTokensRefusal({ CLERK_JWT_KEY: ' ' })).toBeNull();
    expect(localTokensRefusal({ CLERK_SECRET_KEY: 'sk_live_1' })).toContain('Clerk');
    expect(localTokensRefusal({ NODE_ENV: 'production' })).toContain('production');
  });
});

describe('the documents of the settings', () => {
  const read = (name: string): string =>
    readFileSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), 'utf8');

  it('have a sentence about each setting, and in .env.example a value to start from', () => {
    for (const setting of SETTINGS) {
      expect(setting.description).toMatch(/^[^\n|]*\w[^\n|]*$/);
      expect([setting.name, setting.default ?? setting.example]).toEqual([setting.name, expect.any(String)]);
    }
  });

  it('are what the code makes: .env.example and the tables of deploy/settings.md', () => {
    const page = read('deploy/settings.md');

    const written = { example: read('.env.example'), page };

    // Where they are not: npm run docs:settings
    expect(written).toEqual({ example: envExample(), page: withSettingsTables(page) });
  });

  it('name in .env.example exactly the settings and what docker-compose.yml needs', () => {
    const names = [...read('.env.example').matchAll(/^#?([A-Z][A-Z_]*)=/gm)].map(([, name = '']) => name);

    const wanted = new Set([...SETTINGS.map(({ name }) => name), ...composeVariables()]);
    expect(names.sort()).toEqual([...wanted].sort());
  });
});
