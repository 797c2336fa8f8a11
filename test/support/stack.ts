import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Timings } from '../../src/runtime/timings.js';
import { ApiClient } from './api-client.js';
import { createTestDatabase, type TestDatabase } from './database.js';
import { createApp, loadConfig, Role, signLocalOwnerToken } from './product.js';
import { redisSettings } from './test-redis.js';

/** On a machine that has other work a test would else begin without a cursor, and miss what it has posted before it follows. */
const PATIENCE = { cursorTimeoutMs: 2_000 };

export interface StackOptions {
  apis?: number;
  workers?: number;
  /** Settings, over quiet logs and nothing else. */
  env?: Record<string, string>;
  backend?: 'postgres' | 'redis';
  /** Its database; default: one that is made for it. */
  database?: TestDatabase;
  /** Of every process, where they differ from the defaults, which are patient here. */
  timings?: Partial<Timings>;
}

/** By way of the transaction pooler that the tests may have been told to use, which only serves where Redis listens. */
function pooled(url: string, backend: 'postgres' | 'redis'): string {
  const port = process.env['ASSISTLY_TEST_POOLER_PORT'];
  if (port === undefined || backend === 'postgres') return url;
  const way = new URL(url);
  way.port = port;
  return way.href;
}

/**
 * A product that runs: apis and workers, each wired like a process of its own, on a database and a Redis
 * namespace of a test file's own. Spoken to over HTTP only.
 */
export class Stack {
  readonly apis: { app: NestExpressApplication; url: string }[] = [];
  readonly workers: NestExpressApplication[] = [];

  private constructor(
    readonly database: TestDatabase,
    readonly stateDir: string,
    private readonly env: Record<string, string>,
    private readonly timings: Partial<Timings>,
  ) {}

  static async start({
    apis = 1,
    workers = 1,
    env = {},
    backend = globalThis.BACKEND ?? 'postgres',
    database: given,
    timings = {},
  }: StackOptions = {}): Promise<Stack> {
    const database = given ?? (await createTestDatabase());
    const stateDir = mkdtempSync(join(tmpdir(), 'assistly-state-'));
    const stack = new Stack(
      database,
      stateDir,
      {
        NODE_ENV: 'test',
        LOG_LEVEL: process.env['TEST_LOG_LEVEL'] ?? 'silent',
        DATABASE_URL: pooled(database.url, backend),
        LIMITS_ENABLED: 'false', // every test of a file comes from one address
        ALLOWED_MODELS: '*', // a provider of the tests is told by the model what to do
        DRAIN_TIMEOUT_MS: '500', // what a test leaves running is of no use to it
        ...(backend === 'redis' && redisSettings()),
        ...env,
      },
      { ...PATIENCE, ...timings },
    );
    for (let i = 0; i < apis; i++) await stack.addApi();
    for (let i = 0; i < workers; i++) await stack.addWorker();
    return stack;
  }

  async addApi(env: Record<string, string> = {}): Promise<{ app: NestExpressApplication; url: string }> {
    const app = await createApp(loadConfig(Role.Api, { ...this.env, ...env }, this.stateDir), this.timings);
    await app.listen(0, '127.0.0.1');
    const api = { app, url: (await app.getUrl()).replace('[::1]', '127.0.0.1') };
    this.apis.push(api);
    return api;
  }

  async addWorker(env: Record<string, string> = {}): Promise<NestExpressApplication> {
    const app = await createApp(
      loadConfig(Role.Worker, { ...this.env, ...env }, this.stateDir),
      this.timings,
    );
    await app.init();
    this.workers.push(app);
    return app;
  }

  get redisPrefix(): string | undefined {
    return this.env['REDIS_PREFIX'];
  }

  /** A client without a credential, of one of the apis. */
  client(api = 0): ApiClient {
    return new ApiClient(this.apis[api]!.url);
  }

  ownerToken(clerkUserId = 'user_owner'): string {
    return signLocalOwnerToken(this.stateDir, clerkUserId);
  }

  owner(clerkUserId = 'user_owner', api = 0): ApiClient {
    return this.client(api).as(this.ownerToken(clerkUserId));
  }

  async stop(): Promise<void> {
    await Promise.all([
      ...this.apis.map(({ app }) => app.close()),
      ...this.workers.map((app) => app.close()),
    ]);
    await this.database.drop();
    rmSync(this.stateDir, { recursive: true, force: true });
  }
}
