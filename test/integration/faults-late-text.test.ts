import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import type { ApiClient, Json } from '../support/api-client.js';
import { type Backend, BACKENDS } from '../support/conversations.js';
import { FINAL_EVENTS, type SseRecorder } from '../support/sse-recorder.js';
import { Stack } from '../support/stack.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** What a worker waits for an event stream that hangs, and then for one call to it, is less than this. */
const PATIENCE_MS = 15_000;

describe.each(BACKENDS)('a reply that ends while the event stream on %s hangs', (backend: Backend) => {
  let provider: RawProvider;
  let redis: TcpProxy | null = null;
  let stack: Stack;
  beforeAll(async () => {
    provider = await startRawProvider();
    if (backend === 'redis') redis = await startTcpProxy(process.env['ASSISTLY_TEST_REDIS_URL'] ?? '', 6379);
    stack = await Stack.start({
      backend,
      env: { OPENAI_BASE_URL: provider.baseUrl, ...(redis && { REDIS_URL: redis.url }) },
    });
  });
  afterAll(async () => {
    await stack.stop();
    await redis?.close();
    await provider.close();
  });

  /** From now on no append to this session's stream is answered, until the returned call; what was sent is lost. */
  async function hang(sessionId: string): Promise<() => Promise<void>> {
    const held = redis;
    if (held) {
      held.swallow('both');
      return () => Promise.resolve(held.recover());
    }
    const client = new pg.Client({ connectionString: stack.database.url });
    await client.connect();
    await client.query('begin');
    await client.query('select from event_streams where session_id = $1 for update', [sessionId]);
    return async () => {
      await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      );
      await client.end();
    };
  }

  interface Talk {
    guest: ApiClient;
    question: string;
    reply: Json;
    stream: SseRecorder;
    recover: () => Promise<void>;
  }

  /** A reply of which the stream has the first words, and no more until it recovers. */
  async function talk(model: string): Promise<Talk> {
    const chatbot = await stack.owner().createChatbot({ name: 'Bakery', model });
    const { session, guest, cursor } = await stack.client().openSession(chatbot.id);
    const stream = guest.follow(session.id, { after: cursor });
    const question = `What is late, ${session.id}?`;
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);
    return { guest, question, reply, stream, recover: await hang(session.id) };
  }

  const storedStatus = async (replyId: string): Promise<string | undefined> =>
    (await stack.database.query<{ status: string }>('select status from replies where id = $1', [replyId]))[0]
      ?.status;

  /** The watcher had the first words before, and was told the rest before the end, or all of it anew; once. */
  async function expectTold({ reply, stream }: Talk, status: string): Promise<string> {
    const { data } = await stream.next(`reply.${status}`, reply.id);
    expect(stream.textOf(reply.id)).toBe(data.message.content);
    expect(stream.ofType('session.snapshot')).toEqual([]);
    expect(stream.events.filter(({ event }) => FINAL_EVENTS.includes(event))).toHaveLength(1);
    await stream.close();
    return data.message.content as string;
  }

  it.each([
    ['as soon as the rows have the end', 0],
    ['after the worker has given up telling the end', 3_000],
  ])('completed, is told whole when the stream is back %s', async (_, silentMs) => {
    const talked = await talk('pace:100');
    await waitFor('the end in the rows', async () => (await storedStatus(talked.reply.id)) === 'completed', {
      timeoutMs: PATIENCE_MS,
    });
    const shown = talked.stream.textOf(talked.reply.id);
    await new Promise((resolve) => setTimeout(resolve, silentMs));

    await talked.recover();

    expect(await expectTold(talked, 'completed')).toBe(answerTo(talked.question));
    expect(shown.length).toBeLessThan(answerTo(talked.question).length);
  });

  it('cancelled, is told as much as was kept when the stream is back', async () => {
    const talked = await talk('pace:100');
    const answer = await talked.guest.post(`/v1/replies/${talked.reply.id}/cancel`);
    expect(answer.body.status).toBe('cancelled');

    await talked.recover();

    expect(answerTo(talked.question)).toContain(await expectTold(talked, 'cancelled'));
  });
});
