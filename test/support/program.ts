import { type ChildProcess, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApiClient } from './api-client.js';
import { signLocalOwnerToken } from './product.js';
import { freePort } from './services.mjs';
import { redisSettings } from './test-redis.js';
import { waitFor } from './wait.js';

/** The built product as what it is run as: processes with an environment, ports, signals and exit codes. */

const DIST = fileURLToPath(new URL('../../dist/src/', import.meta.url));

/** Compiled code, kept from one process to the next: of a start, a fifth. */
const COMPILE_CACHE = join(tmpdir(), 'assistly-compile-cache');

export interface LogLine {
  msg: string;
  [field: string]: unknown;
}

/** One process, with everything that it has said. */
export class Program {
  stdout = '';
  stderr = '';
  readonly exited: Promise<number | null>;
  private readonly child: ChildProcess;

  constructor(
    program: 'main.js' | 'cli/migrate.js',
    args: string[],
    env: Record<string, string>,
    cwd: string,
  ) {
    this.child = spawn(process.execPath, [join(DIST, program), ...args], {
      cwd,
      // PATH and HOME as everybody has them, and nothing else of ours but what lets the next one start faster.
      env: { PATH: process.env['PATH'], HOME: cwd, NODE_COMPILE_CACHE: COMPILE_CACHE, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout?.on('data', (data) => (this.stdout += String(data)));
    this.child.stderr?.on('data', (data) => (this.stderr += String(data)));
    this.exited = once(this.child, 'close').then(([code]) => code as number | null);
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** Stops it as a host does. @returns the exit code */
  async stop(): Promise<number | null> {
    this.signal('SIGTERM');
    return this.exited;
  }

  /** Its log; fails where a line is no JSON. */
  get log(): LogLine[] {
    return this.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as LogLine);
  }
}

/** A process that serves: an api, or a worker's health checks. */
export interface RunningRole {
  program: Program;
  url: string;
}

/** Where processes run, and the settings that they share, as in production. */
export interface Installation {
  cwd: string;
  env: Record<string, string>;
  /** Clerk's part is played by a key pair of our own: the processes verify what it signs. */
  ownerToken: string;
}

export function createInstallation(
  cwd: string,
  {
    databaseUrl,
    backend,
    modelUrl,
  }: { databaseUrl: string; backend: 'postgres' | 'redis'; modelUrl: string },
): Installation {
  const ownerToken = signLocalOwnerToken(join(cwd, 'clerk'), 'user_owner');
  const clerkKey = createPublicKey(readFileSync(join(cwd, 'clerk', 'owner-token-key.pem')));
  return {
    cwd,
    ownerToken,
    env: {
      NODE_ENV: 'production',
      DATABASE_URL: databaseUrl,
      ...(backend === 'redis' && redisSettings()),
      CLERK_JWT_KEY: clerkKey.export({ type: 'spki', format: 'pem' }) as string,
      OPENAI_BASE_URL: modelUrl,
      OPENAI_API_KEY: 'sk-canary-openai-key',
      OPENAI_MODEL: 'ok',
      ALLOWED_MODELS: '*', // the provider is told by the model what to do
      BULL_BOARD_USER: 'operator',
      BULL_BOARD_PASSWORD: 'canary-board-password',
    },
  };
}

/** Starts a process of a role and waits until it listens. @param onStart gets it at once, to be ended whatever happens */
export async function launch(
  { cwd, env }: Installation,
  role: 'api' | 'worker',
  more: Record<string, string> = {},
  onStart: (program: Program) => void = () => undefined,
): Promise<RunningRole> {
  const port = String(await freePort());
  const program = new Program(
    'main.js',
    [role],
    { ...env, ...(role === 'api' ? { PORT: port } : { WORKER_HEALTH_PORT: port }), ...more },
    cwd,
  );
  onStart(program);
  const url = `http://127.0.0.1:${port}`;
  await waitFor(
    `the ${role} to listen`,
    async () => !program.isRunning || (await fetch(`${url}/health/live`)).status === 200,
    { timeoutMs: 60_000, intervalMs: 100 },
  );
  if (!program.isRunning) throw new Error(`the ${role} has ended: ${program.stderr}`);
  return { program, url };
}

export async function untilReady({ url }: RunningRole): Promise<void> {
  await waitFor('readiness', async () => (await fetch(`${url}/health/ready`)).status === 200, {
    timeoutMs: 60_000,
    intervalMs: 50,
  });
}

export async function launchReady(...args: Parameters<typeof launch>): Promise<RunningRole> {
  const launched = await launch(...args);
  await untilReady(launched);
  return launched;
}

/** A session with a chatbot of a model, which says what the provider does. */
export async function openSession(
  { ownerToken }: Installation,
  api: RunningRole,
  model: string,
): Promise<{ id: string; guest: ApiClient; chatbotId: string }> {
  const client = new ApiClient(api.url);
  const chatbot = await client.as(ownerToken).createChatbot({ name: 'Bakery', model });
  const { session, guest } = await client.openSession(chatbot.id);
  return { id: session.id, guest, chatbotId: chatbot.id };
}
