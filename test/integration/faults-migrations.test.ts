import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Migration } from '@mikro-orm/migrations';
import { migrations } from '../../src/database/migrations/index.js';
import { migrate } from '../../src/migrate.js';
import { ApiClient } from '../support/api-client.js';
import { connected, createTestDatabase } from '../support/database.js';
import { newQuestion, violations } from '../support/conversations.js';
import { signLocalOwnerToken } from '../support/product.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { freePort } from '../support/services.mjs';
import { waitFor } from '../support/wait.js';

/**
 * Migrations of tables in use: section E of the fault plan. One of them waits for a minute, beside the others.
 */

let provider: RawProvider;
let env: Record<string, string>;
beforeAll(async () => {
  provider = await startRawProvider();
  env = { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' };
});
afterAll(() => provider.close());

const DIST = fileURLToPath(new URL('../../dist/src/', import.meta.url));

/** One program of the built product. */
function launch(args: [string, ...string[]], cwd: string, settings: Record<string, string>) {
  const child = spawn(process.execPath, [join(DIST, args[0]), ...args.slice(1)], {
    cwd,
    env: {
      PATH: process.env['PATH'],
      HOME: cwd,
      NODE_ENV: 'test',
      LOG_LEVEL: 'error',
      LIMITS_ENABLED: 'false',
      ALLOWED_MODELS: '*',
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const launched = {
    child,
    output: '',
    exited: once(child, 'close').then(([code]) => code as number | null),
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => (launched.output += String(data)));
  }
  return launched;
}

/** What the next version adds, and what the one after it takes away again. */
class Expand extends Migration {
  override name = 'Migration29990101000000_expand';

  override up(): void {
    this.addSql(`alter table replies add column mood varchar(20) not null default 'calm'`);
    this.addSql('create table moods (name varchar(20) primary key)');
  }
}
class Contract extends Migration {
  override name = 'Migration29990101000001_contract';

  override up(): void {
    this.addSql('alter table replies drop column mood');
    this.addSql('drop table moods');
  }
}

describe('a migration', () => {
  // case 80
  it('that adds, and one that takes away, run while the version before serves twenty writers, none of which waits long', async () => {
    const database = await createTestDatabase();
    const cwd = mkdtempSync(join(tmpdir(), 'assistly-migration-'));
    const token = signLocalOwnerToken(join(cwd, '.assistly'), 'user_owner');
    const [port, healthPort] = [String(await freePort()), String(await freePort())];
    const settings = { ...env, DATABASE_URL: database.url, PORT: port, WORKER_HEALTH_PORT: healthPort };
    const processes = [
      launch(['main.js', 'api'], cwd, settings),
      launch(['main.js', 'worker'], cwd, settings),
    ];
    let isOver = false;
    let written = 0;
    const waitedMs: number[] = [];
    const refused: unknown[] = [];
    try {
      const url = `http://127.0.0.1:${port}`;
      for (const each of [port, healthPort]) {
        await waitFor(
          'the processes to be ready',
          async () => (await fetch(`http://127.0.0.1:${each}/health/ready`)).ok,
          { timeoutMs: 60_000 },
        );
      }
      const chatbot = await new ApiClient(url, token).createChatbot({ name: 'Bakery', model: 'ok' });
      const writer = async (): Promise<void> => {
        const { session, guest } = await new ApiClient(url).openSession(chatbot.id);
        while (!isOver) {
          const startedAt = performance.now();
          const answer = await guest.post(`/v1/sessions/${session.id}/messages`, {
            content: newQuestion(),
          });
          waitedMs.push(performance.now() - startedAt);
          if (answer.status !== 202) refused.push([answer.status, answer.body]);
          written++;
          await sleep(200);
        }
      };
      const writers = Array.from({ length: 20 }, writer);
      await waitFor('writers', () => written > 60, { timeoutMs: 60_000 });

      await connected(database.url, async (reader) => {
        await reader.query('begin');
        await reader.query('select count(*) from replies');
        const waits: string[] = [];
        const expanding = migrate(database.url, {
          migrations: [...migrations, Expand],
          log: (line) => waits.push(line),
        });
        await waitFor('it to get out of the way twice', () => waits.length >= 2);
        await reader.query('commit');
        expect(await expanding).toEqual(['Migration29990101000000_expand']);
      });
      const soFar = written;
      await waitFor('the version before to go on', () => written > soFar + 60, { timeoutMs: 60_000 });
      // The version after writes and reads what the one before knows nothing of, beside it.
      const moved = await database.query(
        `update replies set mood = 'glad' where id in (select id from replies limit 5) returning mood`,
      );
      expect(moved).toEqual(Array.from({ length: 5 }, () => ({ mood: 'glad' })));

      expect(await migrate(database.url, { migrations: [...migrations, Expand, Contract] })).toEqual([
        'Migration29990101000001_contract',
      ]);
      const afterwards = written;
      await waitFor('everybody to go on', () => written > afterwards + 60, { timeoutMs: 60_000 });
      isOver = true;
      await Promise.all(writers);

      expect(refused).toEqual([]);
      expect(Math.max(...waitedMs)).toBeLessThan(4_000); // a lock waits one second; the rest is for a busy machine
      await waitFor(
        'every message to be answered',
        async () => (await violations({ database })).length === 0,
        { timeoutMs: 60_000 },
      );
      const odd = await database.query(
        `select status from replies where status <> 'completed' or attempt <> 1`,
      );
      expect(odd).toEqual([]);
    } finally {
      isOver = true;
      for (const { child } of processes) child.kill('SIGTERM');
      await Promise.all(processes.map(({ exited }) => exited));
      await database.drop();
      rmSync(cwd, { recursive: true, force: true });
    }
    expect(processes.map(({ child }) => child.exitCode)).toEqual([0, 0]);
    for (const { output } of processes) expect(output).not.toContain('"level":50'); // no error
  }, 180_000);

  // case 80
  it.concurrent(
    'of db:migrate gives up after a minute in which a transaction keeps its table, and says which',
    async () => {
      const database = await createTestDatabase();
      const cwd = mkdtempSync(join(tmpdir(), 'assistly-migration-'));
      const last = 'Migration20261126185647_reply_attempts';
      await database.query(`delete from mikro_orm_migrations where name = '${last}'`);
      await database.query(
        `alter table replies drop column claimed_by, drop column claimed_at, drop column past_attempts,
          drop column cancelled_by, drop column characteristics_used, drop column characteristics_of`,
      );
      try {
        await connected(database.url, async (reader) => {
          await reader.query(`set application_name = 'report'`);
          await reader.query('begin');
          await reader.query('select count(*) from replies');

          const run = launch(['cli/migrate.js'], cwd, { DATABASE_URL: database.url });

          expect(await run.exited).toBe(1);
          expect(run.output).toMatch(/reply_attempts waits for a table in use; next try in 2 s/);
          expect(run.output).toMatch(
            /\nNot migrated\. .* end them: \d+ \(report, idle in transaction, open for \d+ s\)\.\n$/,
          );
          expect(run.output).not.toMatch(/\n\s+at /);
          await reader.query('commit');
        });
        const again = launch(['cli/migrate.js'], cwd, { DATABASE_URL: database.url });
        expect(await again.exited).toBe(0);
        expect(again.output).toMatch(new RegExp(`^Migrated: ${last}`));
      } finally {
        await database.drop();
        rmSync(cwd, { recursive: true, force: true });
      }
    },
    180_000,
  );

  // case 80
  it('that meets a lock gets out of the way of twenty writers, and is done once the lock is gone', async () => {
    const database = await createTestDatabase();
    const { url } = database;
    // The schema of the version before: its newest change of a table in use has not happened.
    const last = 'Migration20261126185647_reply_attempts';
    const deleted = await database.query(
      `delete from mikro_orm_migrations where name = '${last}' returning name`,
    );
    await database.query(`alter table replies drop column claimed_by, drop column claimed_at, drop column past_attempts,
          drop column cancelled_by, drop column characteristics_used, drop column characteristics_of`);
    const [chatbot, session] = [randomUUID(), randomUUID()];
    await database.query(
      `insert into chatbots (id, clerk_user_id, name) values ('${chatbot}', 'user', 'Bakery')`,
    );
    await database.query(
      `insert into chat_sessions (id, chatbot_id, token_hash, event_token_key) values ($1, $2, 'hash', 'key')`,
      [session, chatbot],
    );
    let isOver = false;
    let slowestMs = 0;
    let written = 0;
    const writer = async (): Promise<void> => {
      await connected(url, async (client) => {
        while (!isOver) {
          const startedAt = performance.now();
          await client.query(
            `insert into replies (id, chat_session_id, status, finished_at, error_code)
             values ($1, $2, 'failed', clock_timestamp(), 'internal')`,
            [randomUUID(), session],
          );
          slowestMs = Math.max(slowestMs, performance.now() - startedAt);
          written++;
          await sleep(5);
        }
      });
    };
    try {
      await connected(url, async (reader) => {
        await reader.query('begin');
        await reader.query('select count(*) from replies');
        const writers = Array.from({ length: 20 }, writer);
        await waitFor('writers', () => written > 100);
        let isMigrated = false;
        const tries: string[] = [];
        const migrating = migrate(url, { log: (line) => tries.push(line) }).then((ran) => {
          isMigrated = true;
          return ran;
        });
        await waitFor('two tries', () => tries.length >= 2);

        expect(isMigrated).toBe(false);
        const before = written;
        await reader.query('commit');
        const ran = await migrating;
        await waitFor('writers to go on', () => written > before + 100);
        isOver = true;
        await Promise.all(writers);
        expect(ran).toHaveLength(deleted.length);
        expect(slowestMs).toBeLessThan(3_000); // less than two tries and the pause between them
        expect(await migrate(url)).toEqual([]);
      });
    } finally {
      isOver = true;
      await database.drop();
    }
  });
});
