import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { ApiClient, Json } from '../support/api-client.js';
import { type Backend, BACKENDS, expectAnswered } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

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
