import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePort } from './services.mjs';
import { waitFor } from './wait.js';

/** A command to a server, on a connection of its own. */
export async function ask(url: string, ...[command, ...args]: [string, ...string[]]): Promise<unknown> {
  const redis = new Redis(url);
  try {
    return await redis.call(command, ...args);
  } finally {
    redis.disconnect();
  }
}

/** Makes a server the replica of another, and resolves when it has what that one has. */
export async function replicate(url: string, from: string): Promise<void> {
  const { hostname, port } = new URL(from);
  await ask(url, 'REPLICAOF', hostname, port);
  await waitFor('the replica to follow', async () =>
    String(await ask(url, 'INFO', 'replication')).includes('master_link_status:up'),
  );
}

/** Three Sentinels that look after one primary, with a password of their own. */
export interface Sentinels {
  /** As REDIS_SENTINELS takes them. */
  hosts: string;
  urls: string[];
  stop(): Promise<void>;
}

/** @param primary the URL of the server that is the primary at first */
export async function startSentinels(primary: string, name: string, password: string): Promise<Sentinels> {
  const directory = mkdtempSync(join(tmpdir(), 'assistly-sentinels-'));
  const { hostname, port } = new URL(primary);
  const children: ChildProcess[] = [];
  const ports: number[] = [];
  for (let i = 0; i < 3; i++) {
    const own = await freePort();
    const file = join(directory, `${own}.conf`);
    writeFileSync(
      file,
      [
        `port ${own}`,
        'bind 127.0.0.1',
        `requirepass ${password}`,
        `sentinel sentinel-pass ${password}`,
        `sentinel monitor ${name} ${hostname} ${port} 2`,
        `sentinel down-after-milliseconds ${name} 1000`,
        `sentinel failover-timeout ${name} 5000`,
        '',
      ].join('\n'),
    );
    children.push(spawn('redis-server', [file, '--sentinel'], { stdio: 'ignore' }));
    ports.push(own);
  }
  const urls = ports.map((own) => `redis://:${password}@127.0.0.1:${own}`);
  await waitFor(
    'the Sentinels to know each other and the replica',
    async () => {
      const known = await Promise.all(
        urls.map((url) => ask(url, 'SENTINEL', 'MASTER', name).catch(() => [])),
      );
      return known.every((fields) => {
        const about = fields as string[];
        const of = (field: string): string | undefined => about[about.indexOf(field) + 1];
        return of('num-other-sentinels') === '2' && of('num-slaves') === '1';
      });
    },
    { timeoutMs: 30_000 },
  );
  return {
    hosts: ports.map((own) => `127.0.0.1:${own}`).join(','),
    urls,
    async stop() {
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
