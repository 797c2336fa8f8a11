import { afterEach, describe, expect, it } from '@jest/globals';
import { type Backend, BACKENDS } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** Many replies that start at once in one worker, whose pool has as many connections as it has by default. */

const HERD = 1_000;

let stack: Stack | null = null;
let provider: RawProvider | null = null;
afterEach(async () => {
  await stack?.stop();
  await provider?.close();
});

/** As many sessions with a queued reply each, which nobody takes before there is a worker. */
async function queueReplies(count: number): Promise<void> {
  const chatbot = await stack!.owner().createChatbot({ name: 'Bakery', model: 'ok' });
  for (let done = 0; done < count; done += 20) {
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        const { session, guest } = await stack!.client().openSession(chatbot.id);
        await guest.postMessage(session.id, `Herd ${done + index}`);
      }),
    );
  }
}

interface Outcome {
  status: string;
  attempt: number;
  failures: number;
  count: number;
}

const outcomes = (): Promise<Outcome[]> =>
  stack!.database.query<Outcome>(
    'select status, attempt, failures, count(*)::int as count from replies group by 1, 2, 3 order by 1, 2, 3',
  );

const untilAllFinal = (): Promise<unknown> =>
  waitFor(
    'every reply to be final',
    async () => {
      const [row] = await stack!.database.query<{ open: number }>(
        'select count(*)::int as open from replies where finished_at is null',
      );
      return row!.open === 0;
    },
    { timeoutMs: 100_000, intervalMs: 200 },
  );

describe.each(BACKENDS)('a herd of replies, on %s,', (backend: Backend) => {
  it('loses no attempt, however many start at once in one worker', async () => {
    provider = await startRawProvider();
    const env = { OPENAI_BASE_URL: provider.baseUrl, REPLY_CONCURRENCY: String(HERD) };
    stack = await Stack.start({ backend, workers: 0, env });
    await queueReplies(HERD);

    await stack.addWorker({ DATABASE_POOL_MAX: '10' });
    await untilAllFinal();

    expect(await outcomes()).toEqual([{ status: 'completed', attempt: 1, failures: 0, count: HERD }]);
    expect(provider.calls).toHaveLength(HERD);
  }, 180_000);

  it('is charged nothing where the database is away while it starts', async () => {
    provider = await startRawProvider();
    stack = await Stack.start({
      backend,
      workers: 0,
      env: { OPENAI_BASE_URL: provider.baseUrl, REPLY_CONCURRENCY: '200' },
    });
    await queueReplies(200);
    const proxy = await startTcpProxy(stack.database.url);
    try {
      await stack.addWorker({ DATABASE_URL: proxy.url, DATABASE_POOL_MAX: '10' });
      await waitFor('some to be answered', () => provider!.calls.length > 20);
      proxy.hold();
      await new Promise((resolve) => setTimeout(resolve, 5_000)); // two waits for a connection of the pool
      proxy.recover();
      await untilAllFinal();

      const found = await outcomes();
      expect(found.map(({ status }) => status)).toEqual(found.map(() => 'completed'));
      // What had asked the model when the database went may have lost its answer; what had not lost nothing.
      const charged = found.filter(({ failures }) => failures > 0).reduce((sum, { count }) => sum + count, 0);
      expect(charged).toBe(0);
    } finally {
      await stack.stop();
      stack = null;
      await proxy.close();
    }
  }, 180_000);
});
