import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'oxlint';

/**
 * The folders of src/ from the ground up, each with those that it may import. Arrows point down: a row names only
 * folders above it in this list, and a folder without a row is refused. The files right in src/ put all of it
 * together, and may import anything; nobody imports them.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  runtime: [],
  config: ['runtime'],
  metrics: ['runtime', 'config'],
  tracing: ['runtime', 'config'],
  llm: ['runtime', 'config', 'metrics', 'tracing'],
  logging: ['runtime', 'config', 'tracing', 'llm'],
  database: ['runtime', 'config', 'metrics', 'tracing'],
  redis: ['runtime', 'config'],
  limits: ['runtime', 'config', 'database', 'redis'],
  auth: ['runtime', 'config', 'database'],
  events: ['runtime', 'config', 'metrics', 'tracing', 'database', 'redis'],
  queue: ['runtime', 'config', 'metrics', 'tracing', 'database', 'redis'],
  http: ['runtime', 'config', 'metrics', 'tracing', 'logging', 'database', 'limits', 'auth'],
  chatbots: ['runtime', 'config', 'llm', 'logging', 'database', 'limits', 'auth', 'http'],
  guests: ['runtime', 'config', 'database', 'auth', 'http', 'chatbots'],
  // Both roles stand on it, so it knows no HTTP.
  conversations: [
    'runtime',
    'config',
    'metrics',
    'tracing',
    'llm',
    'database',
    'limits',
    'auth',
    'events',
    'queue',
    'guests',
    'chatbots',
  ],
  // The api hands over a job, not a call: its features do not know the worker, nor each other.
  ...Object.fromEntries(
    ['chat-sessions', 'messages', 'replies', 'session-events', 'erasure', 'people', 'usage'].map(
      (feature) => [
        feature,
        [
          'runtime',
          'config',
          'metrics',
          'logging',
          'database',
          'limits',
          'auth',
          'events',
          'http',
          'guests',
          'chatbots',
          'conversations',
        ],
      ],
    ),
  ),
  // A protocol of others, spoken on top of what the features do.
  'ai-sdk': [
    'runtime',
    'logging',
    'database',
    'auth',
    'events',
    'http',
    'conversations',
    'messages',
    'replies',
    'session-events',
  ],
  // HTML, and nothing of what the API does.
  'guest-page': ['runtime', 'config', 'database', 'http', 'chatbots'],
  // The worker has no HTTP, and reads rows, not the api's features.
  worker: [
    'runtime',
    'config',
    'metrics',
    'tracing',
    'llm',
    'database',
    'events',
    'queue',
    'chatbots',
    'conversations',
  ],
  operations: [
    'runtime',
    'config',
    'metrics',
    'database',
    'limits',
    'auth',
    'queue',
    'http',
    'conversations',
  ],
  openapi: ['runtime', 'config', 'http', 'session-events', 'guest-page'],
  // Of the build it serves one file, and knows nothing.
  widget: [],
  // A person's own machine: loaded only where no database is configured.
  dev: ['runtime', 'config', 'auth'],
  cli: ['runtime', 'config', 'database', 'events', 'auth', 'conversations', 'openapi', 'dev'],
};

const folders = Object.keys(MAY_IMPORT);

for (const entry of readdirSync(join(import.meta.dirname, 'src'), { withFileTypes: true })) {
  if (entry.isDirectory() && !folders.includes(entry.name)) {
    throw new Error(`src/${entry.name} has no row in MAY_IMPORT of oxlint.config.ts: say what it may import`);
  }
}
for (const [folder, allowed] of Object.entries(MAY_IMPORT)) {
  const climbing = allowed.filter((other) => folders.indexOf(other) >= folders.indexOf(folder));
  if (climbing.length > 0) {
    throw new Error(
      `arrows point down: ${folder} may not import ${climbing.join(', ')}, which stands not above it`,
    );
  }
}

/** What nothing in src/ may import, wherever it stands. */
const ORM_SQL = ['@mikro-orm/core', '@mikro-orm/postgresql', '@mikro-orm/sql'].map((name) => ({
  name,
  importNames: ['sql', 'raw'],
  message:
    "the ORM's own sql writes values into the text, where logs see them: take kysely's, which binds them",
}));

const noImports = (patterns: { regex: string; message: string }[]) =>
  ['error', { paths: ORM_SQL, patterns }] as ['error', object];

const refuse = (folder: string, allowed: readonly string[]): { regex: string; message: string } => ({
  regex: `^(\\.\\./)+(${folders.filter((other) => other !== folder && !allowed.includes(other)).join('|')})/`,
  message: `${folder} may not import this folder: see MAY_IMPORT in oxlint.config.ts`,
});

/** The files right in src/, seen from a folder of it. */
const COMPOSITION = {
  regex: '^\\.\\./[^/]+$',
  message: 'what stands right in src/ puts the folders together: nothing below imports it',
};

export default defineConfig({
  plugins: ['typescript', 'import', 'unicorn', 'oxc', 'node'],
  categories: { correctness: 'error', suspicious: 'error' },
  options: { typeAware: true },
  env: { node: true },
  ignorePatterns: ['dist', 'node_modules', 'client/src/generated'],
  rules: {
    'node/no-process-env': 'error',
    'typescript/no-floating-promises': 'error',
    'typescript/no-misused-promises': [
      'error',
      {
        checksVoidReturn: false,
      },
    ],
    'typescript/no-explicit-any': 'error',
    'typescript/switch-exhaustiveness-check': 'off',
    'typescript/no-unsafe-type-assertion': 'off',
    'typescript/no-extraneous-class': 'off',
    'typescript/no-base-to-string': 'off',
    'typescript/consistent-return': 'off',
    'no-shadow': 'off',
    'no-underscore-dangle': 'off',
    'unicorn/consistent-function-scoping': 'off',
    'unicorn/no-array-sort': 'off',
    'unicorn/no-array-reverse': 'off',
    'unicorn/no-null': 'off',
    'unicorn/require-post-message-target-origin': 'off', // of windows; a thread has no origin
    'import/no-cycle': 'error',
    'import/no-unassigned-import': 'off',
    'no-await-in-loop': 'off',
    'no-console': 'error',
    'preserve-caught-error': 'off',
    'import/no-named-as-default-member': 'off',
    'typescript/no-misused-spread': 'off',
    'no-unmodified-loop-condition': 'off',
  },
  overrides: [
    {
      files: ['test/**', 'bench/**', '*.mjs', '.ci/**', 'src/cli/**', 'src/main.ts'],
      rules: { 'no-console': 'off', 'node/no-process-env': 'off', 'typescript/no-explicit-any': 'off' },
    },
    { files: ['src/config/env.ts'], rules: { 'node/no-process-env': 'off' } },
    {
      files: ['client/src/**', 'web/src/**', 'web/docs/**'],
      rules: {
        'no-restricted-imports': [
          'error',
          {
            patterns: [
              {
                regex: '^(\\.\\./)+src/|^node:',
                message: 'it runs in browsers, and knows of the backend what openapi.json says',
              },
            ],
          },
        ],
      },
    },
    {
      files: ['web/widget/**'],
      rules: {
        'no-restricted-imports': [
          'error',
          {
            patterns: [
              {
                regex: '^(\\.\\./)|^node:',
                message: 'the widget runs in pages of others, and is small by using nothing',
              },
            ],
          },
        ],
      },
    },
    { files: ['web/widget/build.mjs'], rules: { 'no-restricted-imports': 'off' } },
    { files: ['src/*.ts'], rules: { 'no-restricted-imports': noImports([]) } },
    ...Object.entries(MAY_IMPORT).flatMap(([folder, allowed]) => [
      {
        files: [`src/${folder}/**`],
        rules: { 'no-restricted-imports': noImports([refuse(folder, allowed)]) },
      },
      // The commands of cli/ start what src/ puts together.
      ...(folder === 'cli'
        ? []
        : [
            {
              files: [`src/${folder}/*.ts`],
              rules: { 'no-restricted-imports': noImports([refuse(folder, allowed), COMPOSITION]) },
            },
          ]),
    ]),
  ],
});
