import { execFileSync } from 'node:child_process';

/**
 * The end-to-end suite runs twice: on PostgreSQL alone, and on PostgreSQL and Redis. The second half needs a Redis:
 * the one of REDIS_URL, or a `redis-server` on the PATH, of which one is started for the tests.
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

/** Tests that inject faults and wait for the recovery. */
const FAULTS = '/faults-[^/]*\\.test\\.ts$';

const withRedis = hasRedis();
if (!withRedis) {
  const line = '!'.repeat(80);
  console.warn(
    `${line}\nSKIPPED: everything on Redis. There is no redis-server on the PATH and REDIS_URL is not set.\n${line}`,
  );
}

const common = {
  rootDir: import.meta.dirname,
  testEnvironment: 'node',
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
        },
        module: { type: 'es6' },
      },
    ],
  },
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  globals: { HAS_REDIS: withRedis },
};
const onServices = {
  ...common,
  globalSetup: '<rootDir>/test/support/global-setup.mjs',
  globalTeardown: '<rootDir>/test/support/global-teardown.mjs',
};
const endToEnd = (backend) => ({
  ...onServices,
  displayName: `e2e on ${backend}`,
  testMatch: ['<rootDir>/test/e2e/**/*.test.ts'],
  globals: { ...common.globals, BACKEND: backend },
});

export default {
  maxWorkers: 2,
  testTimeout: 60_000,
  projects: [
    { ...common, displayName: 'unit', testMatch: ['<rootDir>/test/unit/**/*.test.ts'] },
    {
      ...onServices,
      displayName: 'integration',
      testMatch: ['<rootDir>/test/integration/**/*.test.ts'],
      testPathIgnorePatterns: [FAULTS],
    },
    // Injected faults take minutes of waiting: `npm run test:faults`.
    ...(process.env.FAULTS === '1'
      ? [{ ...onServices, displayName: 'faults', testMatch: ['<rootDir>/test/integration/faults-*.test.ts'] }]
      : []),
    endToEnd('postgres'),
    ...(withRedis ? [endToEnd('redis')] : []),
  ],
};
