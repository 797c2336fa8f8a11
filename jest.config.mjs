import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * What depends on where the queue and the event stream live (test/e2e) runs twice: on PostgreSQL alone, and on
 * PostgreSQL and Redis. The second half needs a Redis: the one of REDIS_URL, or a `redis-server` on the PATH, of which
 * one is started for the tests. What says nothing about that (test/api) runs once, on PostgreSQL.
 */
function hasRedis() {
  if (process.env.REDIS_URL) return true;
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The Chromium to look at pages with: the one of CHROMIUM_PATH, or one on the PATH. */
function findChromium() {
  if (process.env.CHROMIUM_PATH) return process.env.CHROMIUM_PATH;
  const directories = (process.env.PATH ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const candidates = names.flatMap((name) => directories.map((directory) => join(directory, name)));
  return candidates.find(isExecutable) ?? null;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function announceSkipped(what) {
  const line = '!'.repeat(80);
  console.warn(`${line}\nSKIPPED: ${what}\n${line}`);
}

/**
 * Tests that inject faults and wait for the recovery, that start and stop real processes, or look at pages in a
 * browser: minutes, which `npm run test:faults` takes.
 */
const APART =
  '/test/integration/(faults-[^/]*|alerts|canary|traces|processes|embedded-postgres|database-settings|loaded-modules|late-worker|queue-board-in-browser|client-in-browser|docs-in-browser|guest-page-in-browser|widget-in-browser)\\.test\\.ts$';

const withRedis = hasRedis();
if (!withRedis) {
  announceSkipped('everything on Redis. There is no redis-server on the PATH and REDIS_URL is not set.');
}
const backends = ['postgres', ...(withRedis ? ['redis'] : [])];
const chromium = findChromium();
if (chromium === null) {
  announceSkipped('what needs a browser. There is no chromium on the PATH and CHROMIUM_PATH is not set.');
}

const common = {
  rootDir: import.meta.dirname,
  testEnvironment: '<rootDir>/test/support/product-environment.mjs',
  extensionsToTreatAsEsm: ['.ts'],
  // Sources import each other by the name of the built file.
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          target: 'es2024',
          experimental: { keepImportAttributes: true }, // of JSON
        },
        module: { type: 'es6' },
      },
    ],
  },
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/test/clients/node_modules/'],
  globals: { HAS_REDIS: withRedis, CHROMIUM: chromium },
};
const onServices = {
  ...common,
  globalSetup: '<rootDir>/test/support/global-setup.mjs',
  globalTeardown: '<rootDir>/test/support/global-teardown.mjs',
  setupFilesAfterEnv: ['<rootDir>/test/support/check-contract.ts'],
};
const endToEnd = (backend, { name = 'e2e', folder = 'e2e' } = {}) => ({
  ...onServices,
  displayName: `${name} on ${backend}`,
  testMatch: [`<rootDir>/test/${folder}/*.test.ts`],
  globals: { ...common.globals, BACKEND: backend },
});

/**
 * Clients that are not ours, in packages of their own: `npm run test:clients`, which installs them. Only faults have to do with
 * the backend.
 */
const clients = (backend) => ({
  ...onServices,
  displayName: `clients on ${backend}`,
  testMatch: [`<rootDir>/test/clients/${backend === 'redis' ? 'matrix' : '*'}.test.ts`],
  globals: { ...common.globals, BACKEND: backend },
});

export default {
  maxWorkers: 4,
  // Workers were seen with nothing left to hold them when told to end, and yet forced out after Jest's half a second on a
  // busy machine. One that something does hold is still told, later.
  workerGracefulExitTimeout: 10_000,
  testTimeout: 120_000, // for a machine that has other work: what hangs is told by what waits for it, sooner
  projects: [
    { ...common, displayName: 'unit', testMatch: ['<rootDir>/test/unit/**/*.test.ts'] },
    {
      ...onServices,
      displayName: 'integration',
      testMatch: ['<rootDir>/test/integration/**/*.test.ts'],
      testPathIgnorePatterns: [APART],
    },
    // They take minutes, most of them of waiting: `npm run test:faults`.
    ...(process.env.FAULTS === '1'
      ? [
          { ...onServices, displayName: 'faults', testRegex: APART },
          ...backends.map((backend) => endToEnd(backend, { name: 'long', folder: 'e2e/long' })),
        ]
      : []),
    { ...onServices, displayName: 'api', testMatch: ['<rootDir>/test/api/**/*.test.ts'] },
    ...backends.map((backend) => endToEnd(backend)),
    ...(process.env.CLIENTS === '1' ? backends.map(clients) : []),
  ],
};
