import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { migrate } from '../../src/migrate.js';
import { startEmbeddedPostgres } from '../../src/dev/embedded-postgres/embedded-postgres.js';
import type { ApiClient } from '../support/api-client.js';
import { connected } from '../support/database.js';
import {
  type Backend,
  BACKENDS,
  callsAbout,
  converse,
  dialogue,
  newQuestion,
  spoken,
  violations,
} from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** Faults of the database, and of those who write to it: section A of the fault plan, and those of section E that no migration has a part in. */

const { Reconciler } = await importProduct<typeof import('../../src/conversations/reconciler.js')>(
  'conversations/reconciler.js',
);

let provider: RawProvider;
let env: Record<string, string>;
beforeAll(async () => {
  provider = await startRawProvider();
  env = { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' };
});
afterAll(() => provider.close());

/** A process that leaves what fell between to the others. */
function stopReconciling(app: INestApplicationContext): void {
  jest.spyOn(app.get(Reconciler, { strict: false }), 'reconcile').mockResolvedValue();
}

describe.each(BACKENDS)('the database, with the queue on %s,', (backend: Backend) => {
  let stack: Stack;
  /** Between the second api, and the only worker, and the database. */
  let toApi: TcpProxy;
  let toWorker: TcpProxy;
  let farApi: string;
  beforeAll(async () => {
    stack = await Stack.start({
      backend,
      workers: 0,
      env,
      timings: { reconcileIntervalMs: 300, finishRetryIntervalMs: 100 },
    });
    toApi = await startTcpProxy(stack.database.url);
    toWorker = await startTcpProxy(stack.database.url);
    const { app, url } = await stack.addApi({
      DATABASE_URL: toApi.url,
      DATABASE_PREPARED_STATEMENTS: 'off',
    });
    stopReconciling(app);
    farApi = url;
    // Each statement is sent as text each time, for the network to see it.
    const far = { DATABASE_URL: toWorker.url, DATABASE_PREPARED_STATEMENTS: 'off' };
    stopReconciling(await stack.addWorker(far));
  });
  afterAll(async () => {
    await stack.stop();
    await toApi.close();
    await toWorker.close();
  });

  const post = (guest: ApiClient, sessionId: string, content: string, key: string) =>
    guest.post(`/v1/sessions/${sessionId}/messages`, { content }, { 'idempotency-key': key });

  // case 2
  it.each([
    ['lost after the commit, whose answer never comes', 'commit', 1],
    ['lost before the commit', 'insert into messages', 0],
  ])(
    'that is %s is told as 503, and the repeated request finds or stores the message once',
    async (_, statement, stored) => {
      const { session, guest } = await converse(stack, 'ok');
      const question = newQuestion();
      const key = randomUUID();
      const isCut = toApi.cutAfter(statement);

      const first = await post(guest.at(farApi), session.id, question, key);

      await isCut;
      expect([first.status, first.body.code]).toEqual([503, 'service_unavailable']);
      await waitFor(
        'the transaction to be over',
        async () =>
          (await guest.messages(session.id)).filter(({ sender }) => sender === 'user').length === stored,
      );
      const again = await post(guest.at(farApi), session.id, question, key);
      expect(again.status).toBe(202);
      expect(again.headers.get('idempotency-replayed')).toBe(stored === 1 ? 'true' : null);
      // The reconciler enqueues the job that was not: as if it had been due for long.
      await stack.database.query(
        `update replies set dispatched_at = clock_timestamp() - interval '1 min' where id = $1 and lease_token is null`,
        [again.body.reply.id],
      );
      expect(await guest.finalReply(again.body.reply.id)).toMatchObject({ status: 'completed' });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
    },
  );

  // case 14
  it.each<[string, () => Promise<void>]>([
    [
      'is silent for some seconds',
      async () => {
        await toWorker.holdAt(`'completed', finished_at`);
        await sleep(3_000);
        toWorker.recover();
      },
    ],
    [
      'is away for some seconds',
      async () => {
        await toWorker.holdAt(`'completed', finished_at`);
        toWorker.refuse(true);
        toWorker.cut();
        await sleep(3_000);
        toWorker.refuse(false);
        toWorker.recover();
      },
    ],
    ['takes the commit and breaks the connection', () => toWorker.cutAfter('commit')],
  ])(
    'that %s exactly when a reply is finished costs no second call, and makes no second message',
    async (_, fault) => {
      const { session, guest, cursor } = await converse(stack, 'pace:20');
      const stream = guest.follow(session.id, { after: cursor });
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await provider.callAbout(question);

      await fault();

      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
      expect(callsAbout(provider, question)).toHaveLength(1);
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
      await stream.next('reply.completed', reply.id);
      expect(stream.textOf(reply.id)).toBe(answerTo(question));
      expect(stream.ofType('reply.completed')).toHaveLength(1);
      await stream.close();
    },
  );

  // cases 12 and 13
  it('gives a reply whose lease ran out to another attempt, and the first one stops, writes nothing more and closes its call', async () => {
    const { session, guest, cursor } = await converse(stack, 'stall-mid');
    const stream = guest.follow(session.id, { after: cursor });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);
    const chatbotId = (await guest.get(`/v1/sessions/${session.id}`)).body.chatbotId as string;
    await stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'pace:20' });

    await stack.database.query(
      `update replies set lease_until = clock_timestamp() - interval '1 s' where id = $1`,
      [reply.id],
    );

    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 2 });
    const [first, second, ...more] = callsAbout(provider, question);
    expect(more).toEqual([]);
    expect([await first!.ended, await second!.ended]).toEqual(['client', 'provider']);
    expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
    await stream.next('reply.completed', reply.id);
    expect(stream.ofType('reply.started').map(({ data }) => data.attempt)).toEqual([1, 2]);
    expect(stream.textOf(reply.id)).toBe(answerTo(question));
    // No word of the first attempt after the second one began.
    const attempts = stream.ofType('reply.delta').map(({ data }) => data.attempt as number);
    expect(attempts).toEqual(attempts.toSorted((a, b) => a - b));
    await stream.close();
  });

  // case 76
  it('lets no reader miss a message: one that was numbered first and is committed last holds up those behind it', async () => {
    const { session, guest } = await converse(stack, 'ok');
    await connected(stack.database.url, async (slow) => {
      await slow.query('begin');
      await slow.query('update chat_sessions set message_count = message_count + 1 where id = $1', [
        session.id,
      ]);
      await slow.query(
        `insert into messages (id, chat_session_id, sequence, sender, content) values ($1, $2, 1, 'ai', 'slow')`,
        [randomUUID(), session.id],
      );
      const question = newQuestion();
      let isPosted = false;
      const posting = guest.postMessage(session.id, question).then((posted) => {
        isPosted = true;
        return posted;
      });
      await waitFor('the post to wait', async () => {
        const rows = await stack.database.query(
          `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rows.length > 0;
      });
      expect(await guest.messages(session.id)).toEqual([]);
      expect(isPosted).toBe(false);
      await slow.query('commit');
      const { message, reply } = await posting;
      expect(message.sequence).toBe(2);
      await guest.finalReply(reply.id);
      const messages = await guest.messages(session.id);
      expect(messages.map(({ sequence }) => sequence as number)).toEqual([1, 2, 3]);
    });
  });

  // case 79
  it('that ends every connection fails no read, and every message that was accepted is answered', async () => {
    const conversations = await Promise.all(Array.from({ length: 5 }, () => converse(stack, 'pace:20')));
    const questions = conversations.map(() => newQuestion());
    const replies = await Promise.all(
      conversations.map(({ guest, session }, i) => guest.postMessage(session.id, questions[i]!)),
    );
    let isOver = false;
    const statuses: number[] = [];
    const reading = conversations.map(async ({ guest, session }) => {
      while (!isOver) {
        statuses.push((await guest.get(`/v1/sessions/${session.id}/messages`)).status);
        await sleep(20);
      }
    });
    const owner = stack.owner();
    reading.push(
      ...[
        '/v1/chatbots',
        `/v1/chatbots/${conversations[0]!.chatbotId}`,
        `/v1/chatbots/${conversations[0]!.chatbotId}/characteristics`,
      ].map(async (path) => {
        while (!isOver) {
          statuses.push((await owner.get(path)).status);
          await sleep(20);
        }
      }),
    );
    let count = 0;
    for (let round = 0; round < 3; round++) {
      await sleep(300);
      const killed = await stack.database.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name like 'assistly%'`,
      );
      count += killed.length;
    }
    expect(count).toBeGreaterThan(0);
    await sleep(300);
    isOver = true;
    await Promise.all(reading);

    expect(statuses.filter((status) => status !== 200)).toEqual([]);
    for (const [i, { guest, session }] of conversations.entries()) {
      expect(await guest.finalReply(replies[i]!.reply.id)).toMatchObject({ status: 'completed' });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(questions[i]!));
    }
  });

  it('holds nothing that must not be, after all of this', async () => {
    await waitFor('nothing unfinished', async () => (await violations(stack)).length === 0);
  });
});

describe('a small pool of connections', () => {
  const POOL = 3;
  let stack: Stack;
  beforeAll(async () => {
    stack = await Stack.start({ backend: 'postgres', env: { ...env, DATABASE_POOL_MAX: String(POOL) } });
  });
  afterAll(() => stack.stop());

  // case 78
  it('serves many streams and replies, none of which holds one', async () => {
    const watched = await converse(stack, 'ok');
    const watchers = await Promise.all(
      Array.from({ length: 100 }, () => watched.guest.follow(watched.session.id).opened()),
    );
    const talks = await Promise.all(Array.from({ length: 20 }, () => converse(stack, 'pace:100')));
    const questions = talks.map(() => newQuestion());
    const replies = await Promise.all(
      talks.map(({ guest, session }, i) => guest.postMessage(session.id, questions[i]!)),
    );
    await Promise.all(questions.map((question) => provider.callAbout(question)));

    let most = 0;
    const held: unknown[] = [];
    const statuses = new Set<number>();
    const end = performance.now() + 2_000;
    await Promise.all([
      (async () => {
        while (performance.now() < end) {
          const rows = await stack.database.query<{ state: string; is_held: boolean }>(
            `select state, state like 'idle in transaction%' and state_change < clock_timestamp() - interval '1 s' as is_held
             from pg_stat_activity where datname = current_database() and application_name = 'assistly'`,
          );
          most = Math.max(most, rows.length);
          held.push(...rows.filter(({ is_held }) => is_held));
          await sleep(50);
        }
      })(),
      ...Array.from({ length: 5 }, async () => {
        while (performance.now() < end) {
          statuses.add((await watched.guest.get(`/v1/sessions/${watched.session.id}`)).status);
        }
      }),
    ]);

    expect(held).toEqual([]);
    expect(most).toBeLessThanOrEqual(2 * POOL); // of an api and a worker
    expect([...statuses]).toEqual([200]);
    for (const [i, { guest }] of talks.entries()) {
      expect(await guest.finalReply(replies[i]!.reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    }
    await Promise.all(watchers.map((watcher) => watcher.close()));
  });

  // case 78
  it('that is all in use answers 503 within seconds, and goes on when it is free', async () => {
    const { guest, session } = await converse(stack, 'ok');
    await connected(stack.database.url, async (blocker) => {
      await blocker.query('begin');
      await blocker.query('select 1 from chat_sessions where id = $1 for update', [session.id]);
      const blocked = Array.from({ length: POOL }, () =>
        guest.post(`/v1/sessions/${session.id}/messages`, { content: newQuestion() }),
      );
      await waitFor('the pool to be in use', async () => {
        const rows = await stack.database.query(
          `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rows.length >= POOL;
      });

      const startedAt = performance.now();
      const { status, body, headers } = await guest.get(`/v1/sessions/${session.id}`);
      const tookMs = performance.now() - startedAt;

      expect([status, body.code, headers.get('retry-after')]).toEqual([503, 'service_unavailable', '1']);
      expect(tookMs).toBeLessThan(8_000); // three, and the rest for a busy machine
      await blocker.query('rollback');
      expect((await Promise.all(blocked)).map((answer) => answer.status)).toEqual([202, 202, 202]);
    });
    expect((await guest.get(`/v1/sessions/${session.id}`)).status).toBe(200);
  });
});

describe('a PostgreSQL server', () => {
  // case 79
  it('may be restarted under running processes: what was accepted is answered, and errors end within seconds', async () => {
    const stateDir = mkdtempSync(join(tmpdir(), 'assistly-restart-'));
    const settings = { fsync: 'off' };
    let server = await startEmbeddedPostgres({ stateDir, settings });
    const proxy = await startTcpProxy(server.url);
    await migrate(server.url);
    const stack = await Stack.start({ apis: 0, workers: 0, backend: 'postgres', env });
    try {
      await stack.addApi({ DATABASE_URL: proxy.url });
      await stack.addWorker({ DATABASE_URL: proxy.url });
      const { guest, session } = await converse(stack, 'pace:50');
      const other = await converse(stack, 'ok');
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await provider.callAbout(question);

      await server.stop();
      proxy.cut();
      const whileDown = await other.guest.get(`/v1/sessions/${other.session.id}`);
      server = await startEmbeddedPostgres({ stateDir, settings });
      proxy.retarget(server.url);
      await waitFor(
        'an answer',
        async () => (await other.guest.get(`/v1/sessions/${other.session.id}`)).status === 200,
        { timeoutMs: 10_000 }, // three, and the rest for a busy machine
      );

      expect([whileDown.status, whileDown.body.code]).toEqual([503, 'service_unavailable']);
      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed' });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
      const next = newQuestion();
      const posted = await other.guest.postMessage(other.session.id, next);
      expect(await other.guest.finalReply(posted.reply.id)).toMatchObject({ status: 'completed' });
    } finally {
      await stack.stop();
      await proxy.close();
      await server.stop();
      rmSync(stateDir, { recursive: true, force: true });
    }
  });

  it('that falls silent for good fails requests in bounded time, and none of its connections is used again', async () => {
    const stack = await Stack.start({ apis: 0, workers: 0, backend: 'postgres', env });
    const proxy = await startTcpProxy(stack.database.url);
    try {
      const { app } = await stack.addApi({ DATABASE_URL: proxy.url });
      stopReconciling(app);
      const { guest, session } = await converse(stack, 'ok');
      const path = `/v1/sessions/${session.id}`;
      expect((await guest.get(path)).status).toBe(200);
      proxy.abandon();

      const startedAt = performance.now();
      const answers = await Promise.all([1, 2, 3, 4].map(() => guest.get(path)));
      const tookMs = performance.now() - startedAt;

      expect(answers.map(({ status }) => status)).toContain(503);
      expect(tookMs).toBeLessThan(30_000);
      expect((await guest.get(path)).status).toBe(200);
    } finally {
      await stack.stop();
      await proxy.close();
    }
  });
});
