import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { ApiClient, Json } from '../support/api-client.js';
import { checkedFetch } from '../support/contract.js';
import { type Backend, BACKENDS, expectAnswered } from '../support/conversations.js';
import { cpuMsOf } from '../support/cpu-time.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import type { SseRecorder } from '../support/sse-recorder.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** A load balancer does not wait longer for an answer, whatever the process is busy with. */
const HEALTH_DEADLINE_MS = 5_000;

/** Posts as a client should that can be turned away by a busy api: with a key, again, and never twice. */
async function postUntilTaken(guest: ApiClient, sessionId: string, content: string): Promise<Json> {
  const key = { 'idempotency-key': randomUUID() };
  return waitFor(
    'the api to take a message',
    async () => {
      const { status, body } = await guest.post(`/v1/sessions/${sessionId}/messages`, { content }, key);
      if (status === 503) return null;
      expect(status).toBe(202);
      return body;
    },
    { intervalMs: 500, timeoutMs: 60_000 },
  );
}

describe.each(BACKENDS)('many sessions at once, on %s,', (backend: Backend) => {
  let provider: RawProvider;
  let stack: Stack;
  beforeAll(async () => {
    provider = await startRawProvider();
    stack = await Stack.start({
      backend,
      apis: 2,
      workers: 2,
      env: {
        OPENAI_BASE_URL: provider.baseUrl,
        // Four processes share one thread here: waiting for that is soon longer than the patience with a pool.
        DATABASE_POOL_MAX: '30',
      },
    });
  });
  afterAll(async () => {
    await stack.stop();
    await provider.close();
  });

  it('are all answered: two hundred with three messages each, every one in order', async () => {
    const owner = stack.owner('user_of_the_crowd');
    const chatbot = await owner.createChatbot({ name: 'Bakery', model: 'ok' });
    const sessions = await Promise.all(
      Array.from({ length: 200 }, (_, index) => stack.client(index % 2).openSession(chatbot.id)),
    );

    const posted = await Promise.all(
      sessions.flatMap(({ session, guest }, index) =>
        ['one', 'two', 'three'].map((number) =>
          postUntilTaken(guest, session.id, `Crowd ${index}, ${number}`),
        ),
      ),
    );
    await waitFor(
      'every reply to be final',
      async () => {
        const [row] = await stack.database.query<{ open: number }>(
          `select count(*)::int as open from replies r join chat_sessions s on s.id = r.chat_session_id
           where s.chatbot_id = $1 and r.finished_at is null`,
          [chatbot.id],
        );
        return row!.open === 0;
      },
      { timeoutMs: 50_000, intervalMs: 100 },
    );

    expect(new Set(posted.map(({ message }) => message.id)).size).toBe(600);
    const statuses = await stack.database.query<{ status: string; count: number }>(
      `select r.status, count(*)::int as count from replies r join chat_sessions s on s.id = r.chat_session_id
       where s.chatbot_id = $1 group by 1`,
      [chatbot.id],
    );
    expect(statuses.map(({ status }) => status)).toEqual(['completed']);
    for (const { session, guest } of sessions) {
      const messages = await guest.messages(session.id);
      expect(messages.filter(({ sender }) => sender === 'user')).toHaveLength(3);
      expectAnswered(messages);
    }
  }, 120_000);
});

describe.each(BACKENDS)('processes that are busy, on %s,', (backend: Backend) => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await Stack.start({ backend });
  });
  afterAll(() => stack.stop());

  it('with many streams still answer for their health', async () => {
    const worker = stack.workers[0]!;
    await worker.listen(0, '127.0.0.1');
    const urls = [stack.apis[0]!.url, (await worker.getUrl()).replace('[::1]', '127.0.0.1')];
    const chatbot = await stack.owner('user_of_the_watched').createChatbot({
      name: 'Bakery',
      characteristics: ['We are open from 7 to 18. '.repeat(70)],
    });
    const streams: SseRecorder[] = [];
    const conversations = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const { session, guest, cursor } = await stack.client().openSession(chatbot.id);
        for (let watcher = 0; watcher < 4; watcher++) {
          streams.push(guest.follow(session.id, { after: cursor }));
        }
        return { session, guest };
      }),
    );
    await Promise.all(streams.map((stream) => stream.opened()));
    let isBusy = true;
    const talk = Promise.all(
      conversations.map(async ({ session, guest }) => {
        const { reply } = await guest.postMessage(session.id, 'When are you open?');
        return guest.finalReply(reply.id, 90_000);
      }),
    ).finally(() => {
      isBusy = false;
    });

    const answers: { status: number; computedMs: number }[] = [];
    do {
      for (const url of urls) {
        for (const path of ['/health/live', '/health/ready']) {
          let status = 0;
          // The thread that all of them share is what is slow, and how long other processes keep the machine from it
          // says nothing about it: what it computes until it answers is counted.
          const computedMs = await cpuMsOf(async () => {
            const response = await checkedFetch(url + path);
            status = response.status;
            await response.text();
          });
          answers.push({ status, computedMs });
        }
      }
    } while (isBusy);
    await Promise.all(streams.map((stream) => stream.close()));

    for (const { status } of await talk) expect(status).toBe('completed');
    expect(answers.length).toBeGreaterThan(4);
    for (const { status, computedMs } of answers) {
      expect(status).toBe(200);
      expect(computedMs).toBeLessThan(HEALTH_DEADLINE_MS);
    }
  }, 120_000);
});
