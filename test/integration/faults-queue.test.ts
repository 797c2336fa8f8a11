import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { BULLMQ_MAJOR_VERSION, withBackend } from 'bullmq';
import { Redis } from 'ioredis';
import { type GenerateJob, jobIdOf, REPLY_QUEUE } from '../../src/conversations/reply-jobs.js';
import type { JobQueue } from '../../src/queue/gated-queue.js';
import type { QueueBackend } from '../../src/queue/queue-backend.js';
import type { Timings } from '../../src/runtime/timings.js';
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
import { bullmqTables, redisKeysButEvents } from '../support/queue-texts.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { freePort, startRedis } from '../support/services.mjs';
import { Stack } from '../support/stack.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** Faults of the queue and of dispatch: section A of the fault plan. */

const { ReplyQueue } = await importProduct<typeof import('../../src/conversations/reply-queue.js')>(
  'conversations/reply-queue.js',
);
const { ReplyEventPublisher } = await importProduct<
  typeof import('../../src/conversations/reply-event-publisher.js')
>('conversations/reply-event-publisher.js');
const { ReplyClaims } = await importProduct<typeof import('../../src/conversations/reply-store/claims.js')>(
  'conversations/reply-store/claims.js',
);
const { Reconciler } = await importProduct<typeof import('../../src/conversations/reconciler.js')>(
  'conversations/reconciler.js',
);
const { QUEUE_BACKEND } =
  await importProduct<typeof import('../../src/queue/queue-backend.js')>('queue/queue-backend.js');

const DIST_MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));

/** What fell between, or failed, is soon tried again. */
const timings: Partial<Timings> = {
  reconcileIntervalMs: 300,
  attemptBackoffMs: 200,
  circuitOpenMs: 300,
};
/** Whatever is answered was not found by the reconciler. */
const withoutRedispatch: Partial<Timings> = { ...timings, redispatchAfterMs: 3_600_000 };

let provider: RawProvider;
beforeAll(async () => {
  provider = await startRawProvider();
});
afterAll(() => provider.close());

const of = <T>(app: INestApplicationContext, token: abstract new (...args: never[]) => T): T =>
  app.get<T>(token, { strict: false });

/** As if the jobs so far had been enqueued so long ago that no worker can be about to claim. */
async function ageBells(stack: Stack): Promise<void> {
  await stack.database.query(
    `update replies set dispatched_at = clock_timestamp() - interval '70 s' where finished_at is null and dispatched_at is not null and lease_token is null`,
  );
}

async function row(stack: Stack, replyId: string): Promise<Record<string, unknown>> {
  const [found] = await stack.database.query('select * from replies where id = $1', [replyId]);
  return found ?? {};
}

/** The queue, as anybody else who may add to it. */
function openQueue(app: INestApplicationContext): JobQueue {
  const backend = app.get<QueueBackend>(QUEUE_BACKEND, { strict: false });
  const { Queue } = withBackend(backend.factory);
  const queue: JobQueue = new Queue<object, unknown>(REPLY_QUEUE.queue, {
    connection: backend.producerConnection,
    prefix: backend.prefix,
  });
  queue.on('error', () => undefined);
  return queue;
}

type JobOfQueue = NonNullable<Awaited<ReturnType<JobQueue['getJob']>>>;

async function ended(queue: JobQueue, jobId: string): Promise<JobOfQueue> {
  return waitFor(`job ${jobId} to end`, async () => {
    const job = await queue.getJob(jobId);
    // Read again: it may have ended between the two.
    return job && ['completed', 'failed'].includes(await job.getState()) ? queue.getJob(jobId) : null;
  });
}

describe.each(BACKENDS)('the queue on %s', (backend: Backend) => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await Stack.start({
      backend,
      apis: 2,
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test', REPLY_ATTEMPTS: '2' },
      timings,
    });
  });
  afterAll(() => stack.stop());

  // case 1
  it('may never get a message from the api: one that dies after its commit leaves a reply that is answered, and a repeated request finds it', async () => {
    const { session, guest } = await converse(stack, 'ok');
    const question = newQuestion();
    const dying = await stack.addApi();
    // The process gets no further than its commit.
    const never = (): Promise<void> => new Promise(() => undefined);
    jest.spyOn(of(dying.app, ReplyQueue), 'enqueue').mockImplementation(never);
    jest.spyOn(of(dying.app, ReplyEventPublisher), 'publishPosted').mockImplementation(never);
    jest.spyOn(of(dying.app, Reconciler), 'reconcile').mockResolvedValue();
    const path = `/v1/sessions/${session.id}/messages`;
    const key = { 'idempotency-key': randomUUID() };
    const lost = new AbortController();
    const cut = guest
      .at(dying.url)
      .request('POST', path, {
        headers: { 'content-type': 'application/json', ...key },
        body: JSON.stringify({ content: question }),
        signal: lost.signal,
      })
      .catch(() => 'cut');
    await waitFor('the commit', async () => (await guest.messages(session.id)).length === 1);
    lost.abort();
    expect(await cut).toBe('cut');
    await ageBells(stack);

    const again = await guest.post(path, { content: question }, key);

    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([202, 'true']);
    expect(await guest.finalReply(again.body.reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
    expect(callsAbout(provider, question)).toHaveLength(1);
  });

  // case 15
  it('may deliver a reply three times, while two reconcilers enqueue it: it is generated once', async () => {
    const { session, guest } = await converse(stack, 'pace:30');
    const question = newQuestion();
    // Nobody takes it yet: its first job is due in a minute.
    await stack.database.query(`
      create function hold() returns trigger language plpgsql as $$
      begin new.available_at = clock_timestamp() + interval '1 hour'; return new; end $$;
      create trigger hold before insert on replies for each row execute function hold()`);
    const { reply } = await guest.postMessage(session.id, question);
    await stack.database.query('drop trigger hold on replies; drop function hold');
    const queue = openQueue(stack.workers[0]!);
    await ended(queue, jobIdOf(reply.id, 1)); // came before its time: postponed by a second one
    const before = await waitFor('the postponement', async () => {
      const now = await row(stack, reply.id);
      return Number(now['dispatch_count']) === 2 ? now : null;
    });
    await stack.database.query(
      `update replies set available_at = clock_timestamp() - interval '1 s', dispatched_at = clock_timestamp() - interval '70 s' where id = $1`,
      [reply.id],
    );
    const job = (number: number): GenerateJob => ({
      version: 1,
      replyId: reply.id,
      sessionId: session.id,
      number,
      requestId: null,
    });

    await Promise.all([
      ...stack.apis
        .slice(0, 2)
        .flatMap(({ app }) => [of(app, Reconciler).reconcile(), of(app, Reconciler).reconcile()]),
      ...[101, 102, 103].map((number) =>
        queue.add('generate', job(number), { jobId: jobIdOf(reply.id, number) }),
      ),
    ]);

    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    const jobs = await Promise.all([101, 102, 103].map((number) => ended(queue, jobIdOf(reply.id, number))));
    expect(jobs.map(({ failedReason }) => failedReason)).toEqual([undefined, undefined, undefined]);
    expect(callsAbout(provider, question)).toHaveLength(1);
    expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
    // Of four rounds at once, at most one enqueued it.
    expect(Number((await row(stack, reply.id))['dispatch_count'])).toBeLessThanOrEqual(
      Number(before['dispatch_count']) + 1,
    );
    await queue.close();
  });

  // case 16
  it('may hold jobs of unknown replies, names and versions, and without sense: each ends once, and nothing happens', async () => {
    const queue = openQueue(stack.workers[0]!);
    const { session, guest } = await converse(stack, 'ok');
    const { reply } = await guest.postMessage(session.id, newQuestion());
    await guest.finalReply(reply.id);
    const job = { version: 1, replyId: reply.id, sessionId: session.id, number: 1, requestId: null };
    const add = async (data: object, name = 'generate'): Promise<string> => {
      const id = `r-strange-${randomUUID()}`;
      await queue.add(name, data, { jobId: id, attempts: 1 });
      return id;
    };
    const callsBefore = provider.calls.length;
    const ids = [
      await add({ ...job, replyId: randomUUID(), sessionId: randomUUID() }),
      await add({ ...job, shade: 'of a newer version, which adds a field' }),
      await add({ ...job, version: 2, model: 'new' }),
      await add(job, 'summarize'),
      await add(job, 'constructor'),
      await add({ ...job, replyId: 'no-uuid' }),
      await add({ ...job, number: '1' }),
      await add({}),
    ];

    const jobs = await Promise.all(ids.map((id) => ended(queue, id)));

    for (const { returnvalue, failedReason, attemptsMade } of jobs)
      expect([failedReason, returnvalue, attemptsMade]).toEqual([undefined, { outcome: 'nothing_to_do' }, 1]);
    expect(provider.calls).toHaveLength(callsBefore);
    await queue.close();
  });

  // case 17
  it('keeps a failed job without swallowing the next job of its reply', async () => {
    const { session, guest } = await converse(stack, 'ok');
    const question = newQuestion();
    await stack.database.query(`
      create function refuse() returns trigger language plpgsql as $$
      begin if new.attempt > old.attempt then raise exception 'refused'; end if; return new; end $$;
      create trigger refuse before update on replies for each row execute function refuse()`);
    const queue = openQueue(stack.workers[0]!);
    const { reply } = await guest.postMessage(session.id, question);
    const failed = await ended(queue, jobIdOf(reply.id, 1));
    expect([await failed.getState(), failed.failedReason]).toEqual(['failed', 'internal']);

    await stack.database.query('drop trigger refuse on replies; drop function refuse');
    await ageBells(stack);

    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
    expect(await queue.getJob(jobIdOf(reply.id, 1))).toBeDefined(); // still kept
    await queue.close();
  });

  // case 21
  it('gets nothing of what a job threw: it fails with a short code, once, and its reply is answered all the same', async () => {
    const cyclic: { self?: unknown; text: string } = { text: 'canary\0\ud800' };
    cyclic.self = cyclic;
    const claims = of(stack.workers[0]!, ReplyClaims);
    const queue = openQueue(stack.workers[0]!);
    for (const thrown of [undefined, 'canary\0\ud800', cyclic, new Error('canary\0\ud800')]) {
      const { session, guest } = await converse(stack, 'ok');
      const question = newQuestion();
      const claim = jest.spyOn(claims, 'claim').mockRejectedValueOnce(thrown);
      const { reply } = await guest.postMessage(session.id, question);
      const failed = await ended(queue, jobIdOf(reply.id, 1));
      claim.mockRestore();
      expect([await failed.getState(), failed.failedReason, failed.attemptsMade]).toEqual([
        'failed',
        'internal',
        1,
      ]);
      await ageBells(stack);
      await of(stack.apis[0]!.app, Reconciler).reconcile();
      await guest.finalReply(reply.id);
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
    }
    await queue.close();
  });

  // case 24
  it('holds nothing that people or the model said, nowhere but in the event stream', async () => {
    const canary = `canary-${randomUUID()}`;
    const queue = openQueue(stack.workers[0]!);
    await Promise.all(
      Array.from({ length: 30 }, async (_, index) => {
        const { session, guest } = await converse(stack, index % 3 === 0 ? 'status:500' : 'ok');
        const { reply } = await guest.postMessage(session.id, `${canary} ${index}`);
        await guest.finalReply(reply.id);
      }),
    );
    const texts = await bullmqTables(stack.database);
    if (backend === 'redis') texts.push(...(await redisKeysButEvents(stack.redisPrefix!)));

    expect(texts.some((text) => text.includes('r-'))).toBe(true); // it was looked at the right place
    expect(texts.filter((text) => text.includes(canary))).toEqual([]);
    expect(texts.filter((text) => text.includes('The end.'))).toEqual([]); // of every answer
    await queue.close();
  });

  // case 20
  it('that is closing takes a job or refuses it soon, and the reply is answered elsewhere', async () => {
    const { session, guest } = await converse(stack, 'ok');
    const { app, url } = await stack.addApi();
    await waitFor('the queue to be open', async () => (await fetch(`${url}/health/ready`)).ok);
    const queue = of(app, ReplyQueue);
    const { reply } = await guest.postMessage(session.id, newQuestion());
    await guest.finalReply(reply.id);
    const dispatch = {
      sessionId: session.id as string,
      chatbotId: null,
      delayMs: 0,
      dueAt: null,
      requestId: null,
    };

    const closing = app.close();
    const tookMs = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        await new Promise((resolve) => setTimeout(resolve, index * 10)); // spread over the whole of it
        const startedAt = performance.now();
        await queue.enqueue({ ...dispatch, replyId: reply.id as string, number: 1000 + index });
        return performance.now() - startedAt;
      }),
    );
    await closing;

    expect(Math.max(...tookMs)).toBeLessThan(5_000); // half a second, and the rest for a busy machine
    const question = newQuestion();
    const next = await guest.postMessage(session.id, question);
    expect(await guest.finalReply(next.reply.id)).toMatchObject({ status: 'completed' });
  });

  // case 22, but for fairness among owners
  it('may be longer than the workers can serve: what is not answered in time ends as expired, and is not answered late', async () => {
    const MAX_AGE_MS = 4_000;
    const small = await Stack.start({
      backend,
      workers: 2,
      env: {
        OPENAI_BASE_URL: provider.baseUrl,
        OPENAI_API_KEY: 'sk-test',
        REPLY_CONCURRENCY: '2',
        REPLY_MAX_AGE_MS: String(MAX_AGE_MS),
      },
      timings,
    });
    try {
      const posts = await Promise.all(
        Array.from({ length: 80 }, async () => {
          const { session, guest } = await converse(small, 'pace:60'); // some 1.3 s each
          const question = newQuestion();
          return { guest, question, reply: (await guest.postMessage(session.id, question)).reply };
        }),
      );
      const replies = await Promise.all(posts.map(({ guest, reply }) => guest.finalReply(reply.id)));

      const expired = replies.filter(({ error }) => error?.code === 'expired');
      const completed = replies.filter(({ status }) => status === 'completed');
      expect(completed.length + expired.length).toBe(80);
      expect(completed.length).toBeGreaterThan(0);
      expect(expired.length).toBeGreaterThan(20);
      for (const reply of replies) {
        // The reconciler's next look, and the rest for a busy machine.
        expect(Date.parse(reply.finishedAt) - Date.parse(reply.createdAt)).toBeLessThan(MAX_AGE_MS + 20_000);
      }
      const unasked = posts.filter(({ question }) => callsAbout(provider, question).length === 0);
      expect(unasked.length).toBeGreaterThan(20); // nothing was spent on what was already too late
      expect(await violations(small)).toEqual([]);
    } finally {
      await small.stop();
    }
  }, 60_000);

  it('leaves nothing behind that must not be, after all of this', async () => {
    await waitFor('nothing unfinished', async () => (await violations(stack)).length === 0);
  });
});

describe.each(BACKENDS)('a queue on %s that loses everything', (backend: Backend) => {
  // cases 4 and 5
  it('loses no reply: what was being generated, waited and was put off is answered once', async () => {
    const redis = backend === 'redis' ? await startRedis() : null;
    const stack = await Stack.start({
      backend,
      env: {
        OPENAI_BASE_URL: provider.baseUrl,
        OPENAI_API_KEY: 'sk-test',
        REPLY_CONCURRENCY: '1',
        ...(redis && { REDIS_URL: redis.url }),
      },
      timings,
    });
    try {
      // Three that are put off.
      const delayed = await Promise.all([1, 2, 3].map(() => converse(stack, '429:3')));
      const delayedQuestions = delayed.map(() => newQuestion());
      await Promise.all(
        delayed.map(({ session, guest }, i) => guest.postMessage(session.id, delayedQuestions[i]!)),
      );
      await waitFor('three pauses', async () => {
        const rows = await stack.database.query(
          'select 1 from replies where failures = 1 and lease_token is null',
        );
        return rows.length === 3;
      });
      await Promise.all(
        delayed.map(({ chatbotId }) => stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' })),
      );
      // One that is generated, and five that wait for it.
      const active = await converse(stack, 'pace:100');
      const activeQuestion = newQuestion();
      await active.guest.postMessage(active.session.id, activeQuestion);
      await provider.callAbout(activeQuestion);
      const waiting = await Promise.all([1, 2, 3, 4, 5].map(() => converse(stack, 'ok')));
      const waitingQuestions = waiting.map(() => newQuestion());
      await Promise.all(
        waiting.map(({ session, guest }, i) => guest.postMessage(session.id, waitingQuestions[i]!)),
      );

      if (redis) {
        const client = new Redis(redis.url);
        expect(await client.dbsize()).toBeGreaterThan(0);
        await client.flushall();
        client.disconnect();
      } else {
        const lost = await stack.database.query('delete from bullmq.job returning 1');
        expect(lost.length).toBeGreaterThanOrEqual(9);
      }
      await ageBells(stack);

      await waitFor('all nine', async () => (await violations(stack)).length === 0, { timeoutMs: 40_000 });
      const all = [active, ...waiting, ...delayed];
      const questions = [activeQuestion, ...waitingQuestions, ...delayedQuestions];
      for (const [i, { session, guest }] of all.entries()) {
        expect(spoken(await guest.messages(session.id))).toEqual(dialogue(questions[i]!));
      }
      const rows = await stack.database.query<{ status: string }>('select status from replies');
      expect(rows.map(({ status }) => status)).toEqual(Array.from({ length: 9 }, () => 'completed'));
    } finally {
      await stack.stop();
      await redis?.stop();
    }
  });
});

(globalThis.HAS_REDIS ? describe : describe.skip)('a Redis', () => {
  let redis: Awaited<ReturnType<typeof startRedis>>;
  let stack: Stack;
  beforeAll(async () => {
    redis = await startRedis();
    stack = await Stack.start({
      backend: 'redis',
      env: { REDIS_URL: redis.url, OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings: { ...timings, redispatchAfterMs: 2_000 },
    });
    const { guest, session } = await converse(stack, 'ok');
    await guest.finalReply((await guest.postMessage(session.id, newQuestion())).reply.id);
  });
  afterAll(async () => {
    await stack.stop();
    await redis.stop();
  });

  /** Posts while Redis is in trouble, each post into a session of its own; and gives what to check afterwards. */
  async function postInTrouble(
    begin: () => Promise<void> | void,
    end: () => Promise<void> | void,
  ): Promise<void> {
    const conversations = await Promise.all([1, 2, 3].map(() => converse(stack, 'ok')));
    const questions = conversations.map(() => newQuestion());
    await begin();
    const posted: { status: number; replyStatus: string; replyId: string; tookMs: number }[] = [];
    try {
      for (const [i, { guest, session }] of conversations.entries()) {
        const startedAt = performance.now();
        const { status, body } = await guest.post(`/v1/sessions/${session.id}/messages`, {
          content: questions[i],
        });
        const tookMs = performance.now() - startedAt;
        posted.push({ status, replyStatus: body.reply.status, replyId: body.reply.id, tookMs });
      }
    } finally {
      await end();
    }
    expect(posted.map(({ status, replyStatus }) => [status, replyStatus])).toEqual(
      posted.map(() => [202, 'queued']),
    );
    // Eight tenths, and the rest for a busy machine: whoever waits for Redis waits four seconds.
    expect(Math.max(...posted.map(({ tookMs }) => tookMs))).toBeLessThan(3_000);
    for (const [i, { guest, session }] of conversations.entries()) {
      const reply = await guest.finalReply(posted[i]!.replyId, 30_000);
      expect(reply).toMatchObject({ status: 'completed' });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(questions[i]!));
      expect(callsAbout(provider, questions[i]!)).toHaveLength(1);
    }
  }

  // case 3
  it('that is frozen holds up no post, and the replies are answered when it is back', async () => {
    await postInTrouble(
      () => void redis.process.kill('SIGSTOP'),
      () => void redis.process.kill('SIGCONT'),
    );
  });

  // case 3
  it('that is down holds up no post, and the replies are answered when it is back, empty', async () => {
    const port = Number(new URL(redis.url).port);
    await postInTrouble(
      async () => {
        redis.process.kill('SIGKILL');
        await once(redis.process, 'exit');
      },
      async () => {
        redis = await startRedis(port);
      },
    );
  });

  // case 5
  it('without memory takes no job, and fails no post and no reply: the backlog is answered when it has some', async () => {
    const client = new Redis(redis.url);
    await postInTrouble(
      async () => void (await client.config('SET', 'maxmemory', '1')),
      async () => void (await client.config('SET', 'maxmemory', '0')),
    );
    client.disconnect();
    const rows = await stack.database.query(`select 1 from replies where status = 'failed'`);
    expect(rows).toEqual([]);
  });

  // case 6
  it('that may throw jobs away keeps a process in production from being ready, by name', async () => {
    const client = new Redis(redis.url);
    await client.config('SET', 'maxmemory-policy', 'allkeys-lru');
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const ready = async (url: string): Promise<[number, string]> => {
      const response = await fetch(`${url}/health/ready`);
      const { detail = '' } = (await response.json()) as { detail?: string };
      return [response.status, detail];
    };
    const { url } = await stack.addApi({
      NODE_ENV: 'production',
      CLERK_JWT_KEY: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    });

    const refusal = await waitFor('the rest to be ready', async () => {
      const [status, detail] = await ready(url);
      return !detail.includes(',') && status === 503 && detail;
    });

    expect(refusal).toBe('Not ready. Missing: queue (maxmemory-policy noeviction in Redis).');
    expect(await ready(stack.apis[0]!.url)).toEqual([200, '']); // not in production: a developer may
    await client.config('SET', 'maxmemory-policy', 'noeviction');
    expect(await ready(url)).toEqual([200, '']);
    client.disconnect();
  });
});

// case 23
describe.each(BACKENDS)('a version whose BullMQ is too old for the tables, on %s', (backend: Backend) => {
  it('takes no jobs and says why, those before it work on, and what waits is answered', async () => {
    const authorization = `Basic ${Buffer.from('operator:secret').toString('base64')}`;
    const stack = await Stack.start({
      backend,
      env: {
        OPENAI_BASE_URL: provider.baseUrl,
        OPENAI_API_KEY: 'sk-test',
        BULL_BOARD_USER: 'operator',
        BULL_BOARD_PASSWORD: 'secret',
      },
      timings,
    });
    const queuePart = async (url: string): Promise<{ status: string; reason?: string } | undefined> => {
      const response = await fetch(`${url}/health/ready`, { headers: { authorization } });
      const { parts } = (await response.json()) as {
        parts: { name: string; status: string; reason?: string }[];
      };
      return parts.find(({ name }) => name === 'queue');
    };
    const reason = (url: string): Promise<string> =>
      waitFor('the gate to have looked', async () => {
        const { reason } = (await queuePart(url)) ?? {};
        return reason?.startsWith('the tables') ? reason : null;
      });
    const needBullmq = (major: number): Promise<unknown> =>
      stack.database.query(
        `update bullmq.migration set min_client_version = $1
         where version = (select max(version) from bullmq.migration)`,
        [major],
      );
    try {
      const { guest, session } = await converse(stack, 'ok');

      await needBullmq(BULLMQ_MAJOR_VERSION + 1);
      const { url } = await stack.addApi();
      const worker = await stack.addWorker();
      await worker.listen(0, '127.0.0.1');

      const refusal = `the tables need BullMQ ${BULLMQ_MAJOR_VERSION + 1} or newer, and this version of the product has BullMQ ${BULLMQ_MAJOR_VERSION}`;
      expect(await reason(url)).toBe(refusal);
      expect(await reason((await worker.getUrl()).replace('[::1]', '127.0.0.1'))).toBe(refusal);
      expect(await queuePart(stack.apis[0]!.url)).toEqual({ name: 'queue', status: 'up' });
      await guest.finalReply((await guest.postMessage(session.id, newQuestion())).reply.id);

      await stack.workers.shift()!.close();
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await sleep(1_500); // three looks of the gate
      expect((await row(stack, reply.id))['status']).toBe('queued');
      await needBullmq(BULLMQ_MAJOR_VERSION);
      await guest.finalReply(reply.id);

      expect((await guest.messages(session.id)).at(-1).content).toBe(answerTo(question));
      expect(callsAbout(provider, question)).toHaveLength(1);
    } finally {
      await stack.stop();
    }
  });
});

describe('jobs on PostgreSQL', () => {
  // case 8
  it('are taken within seconds after the connections that listen were killed', async () => {
    const stack = await Stack.start({
      backend: 'postgres',
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings: withoutRedispatch,
    });
    try {
      const { guest, session } = await converse(stack, 'ok');
      await guest.finalReply((await guest.postMessage(session.id, newQuestion())).reply.id);
      const killed = await stack.database.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name in ('assistly-event-stream', 'replies')`,
      );
      expect(killed.length).toBeGreaterThan(0);

      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await guest.finalReply(reply.id);

      expect((await row(stack, reply.id))['dispatch_count']).toBe(1);
      expect((await guest.messages(session.id)).at(-1).content).toBe(answerTo(question));
    } finally {
      await stack.stop();
    }
  });

  // case 9
  it('are taken within seconds by a worker that gets no notifications and knows a job for later', async () => {
    const stack = await Stack.start({
      backend: 'postgres',
      workers: 0,
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings: withoutRedispatch,
    });
    const proxy = await startTcpProxy(stack.database.url);
    try {
      proxy.replace('bullmq_jobs', 'nobody_jobs');
      await stack.addWorker({ DATABASE_URL: proxy.url });
      const later = await converse(stack, '429:300');
      await later.guest.postMessage(later.session.id, newQuestion());
      await waitFor('the job for later', async () => {
        const rows = await stack.database.query(`select 1 from bullmq.job where state = 'delayed'`);
        return rows.length === 1;
      });

      const { guest, session } = await converse(stack, 'ok');
      const { reply } = await guest.postMessage(session.id, newQuestion());
      await guest.finalReply(reply.id);

      expect((await row(stack, reply.id))['dispatch_count']).toBe(1);
    } finally {
      await stack.stop();
      await proxy.close();
    }
  });

  /** A worker process whose clock is wrong. */
  async function startWorkerWithClock(stack: Stack, aheadMs: number, env: Record<string, string> = {}) {
    const directory = mkdtempSync(join(tmpdir(), 'assistly-clock-'));
    const patch = join(directory, 'clock.mjs');
    writeFileSync(
      patch,
      `const now = Date.now; Date.now = () => now() + ${aheadMs};
       const Real = Date;
       globalThis.Date = class extends Real { constructor(...a) { a.length === 0 ? super(Real.now()) : super(...a); } };`,
    );
    const port = await freePort();
    const child = spawn(process.execPath, ['--import', patch, DIST_MAIN, 'worker'], {
      cwd: directory,
      env: {
        PATH: process.env['PATH'],
        NODE_ENV: 'test',
        LOG_LEVEL: 'silent',
        DATABASE_URL: stack.database.url,
        OPENAI_BASE_URL: provider.baseUrl,
        OPENAI_API_KEY: 'sk-test',
        WORKER_HEALTH_PORT: String(port),
        ...env,
      },
      stdio: 'ignore',
    });
    await waitFor(
      'the worker to be ready',
      async () => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok,
      { timeoutMs: 30_000, intervalMs: 100 },
    );
    return {
      kill: async (): Promise<void> => {
        if (child.exitCode === null && child.signalCode === null) {
          child.kill('SIGKILL');
          await once(child, 'exit');
        }
        rmSync(directory, { recursive: true, force: true });
      },
    };
  }

  // case 10
  it('that a worker with a clock a minute ahead steals are not generated twice', async () => {
    const stack = await Stack.start({
      backend: 'postgres',
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings,
    });
    let thief: { kill: () => Promise<void> } | undefined;
    try {
      const { guest, session } = await converse(stack, 'held');
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await provider.callAbout(question);
      // As the honest worker's own look at the jobs does, every fifteen seconds.
      await stack.database.query(`update bullmq.job set stalled_marked = true where state = 'active'`);
      thief = await startWorkerWithClock(stack, 60_000);
      await waitFor('the theft', async () => {
        const rows = await stack.database.query(
          `select 1 from bullmq.event where event = 'stalled' and data->>'jobId' = $1`,
          [jobIdOf(reply.id, 1)],
        );
        return rows.length > 0;
      });
      expect((await row(stack, reply.id))['finished_at']).toBeNull(); // while it was generated
      (await provider.callAbout(question)).release();

      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
      expect(callsAbout(provider, question)).toHaveLength(1);
    } finally {
      await thief?.kill();
      await stack.stop();
    }
  });

  // case 11
  it('are recovered by the rows although a clock an hour ahead has turned off the queue’s own recovery', async () => {
    const stack = await Stack.start({
      backend: 'postgres',
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings,
      workers: 0,
    });
    const children: { kill: () => Promise<void> }[] = [];
    try {
      const fast = await startWorkerWithClock(stack, 3_600_000);
      children.push(fast);
      await waitFor('its mark in the future', async () => {
        const rows = await stack.database.query(
          `select 1 from bullmq.meta where field = 'stalled-check'
           and value::numeric > extract(epoch from now() + interval '30 min') * 1000`,
        );
        return rows.length === 1;
      });
      await fast.kill();
      const honest = await startWorkerWithClock(stack, 0);
      children.push(honest);
      const { guest, session } = await converse(stack, 'held');
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await provider.callAbout(question);
      await honest.kill();
      await stack.addWorker();
      // The lease of the one that was killed runs out now, not in twenty seconds.
      await stack.database.query(
        `update replies set lease_until = clock_timestamp() - interval '1 s' where id = $1`,
        [reply.id],
      );

      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 2 });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
      expect(callsAbout(provider, question)).toHaveLength(2);
    } finally {
      for (const child of children) await child.kill();
      await stack.stop();
    }
  });
});
