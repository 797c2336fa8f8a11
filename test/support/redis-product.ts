import { expect } from '@jest/globals';
import { DEFAULT_TIMINGS } from '../../src/runtime/timings.js';
import { converse, dialogue, newQuestion, spoken } from './conversations.js';
import type { RawProvider } from './raw-provider.js';
import { Stack } from './stack.js';

/** What is promised of a failover. */
export const ANSWERED_WITHIN_MS = 10_000;

const OPERATOR = { BULL_BOARD_USER: 'operator', BULL_BOARD_PASSWORD: 'a long secret' };

/** A product on a Redis of the test's own, which recovers soon. */
export const startOnRedis = (provider: RawProvider, env: Record<string, string>): Promise<Stack> =>
  Stack.start({
    backend: 'redis',
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test', ...OPERATOR, ...env },
    timings: {
      reconcileIntervalMs: 300,
      attemptBackoffMs: 200,
      redispatchAfterMs: 2_000,
      cursorTimeoutMs: DEFAULT_TIMINGS.cursorTimeoutMs, // a stream that hangs is what these tests are about
    },
  });

/** What an operator is told of a process; a worker has to listen. */
export async function readiness(
  stack: Stack,
  of: 'api' | 'worker' = 'api',
): Promise<{ status: number; text: string }> {
  const { BULL_BOARD_USER: user, BULL_BOARD_PASSWORD: password } = OPERATOR;
  const url = of === 'api' ? stack.apis[0]!.url : await stack.workers[0]!.getUrl();
  const response = await fetch(`${url.replace('[::1]', '127.0.0.1')}/health/ready`, {
    headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
  });
  return { status: response.status, text: await response.text() };
}

/** One reply, in a session of its own. @returns how long it took */
export async function answered(stack: Stack, timeoutMs = ANSWERED_WITHIN_MS): Promise<number> {
  const { guest, session } = await converse(stack, 'ok');
  const question = newQuestion();
  const startedAt = performance.now();
  const { reply } = await guest.postMessage(session.id, question);
  expect(await guest.finalReply(reply.id, timeoutMs)).toMatchObject({ status: 'completed' });
  expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
  return performance.now() - startedAt;
}
