import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import type { Json } from '../support/api-client.js';
import { ask, converse } from '../support/conversations.js';

describe('a second model', () => {
  let first: RawProvider;
  let second: RawProvider;
  let stack: Stack;
  beforeAll(async () => {
    [first, second] = await Promise.all([startRawProvider(), startRawProvider()]);
    stack = await Stack.start({
      timings: { attemptBackoffMs: 50 },
      env: {
        OPENAI_BASE_URL: first.baseUrl,
        OPENAI_API_KEY: 'key-of-the-first',
        OPENAI_MODEL: 'ok',
        OPENAI_FALLBACK_MODEL: 'length',
        OPENAI_FALLBACK_BASE_URL: second.baseUrl,
        OPENAI_FALLBACK_API_KEY: 'key-of-the-second',
        REPLY_ATTEMPTS: '2',
      },
    });
  });
  afterAll(async () => {
    await stack.stop();
    await Promise.all([first.close(), second.close()]);
  });

  /** A question to a chatbot of its own, to its end. */
  const askOnce = async (model: string): Promise<Json> => ask(await converse(stack, model));

  it('answers when the first is unavailable after its attempts, and the reply says so', async () => {
    const reply = await askOnce('status:503');

    expect(reply).toMatchObject({ status: 'completed', model: 'length', finishReason: 'length', attempt: 3 });
    expect(first.calls.length).toBeLessThanOrEqual(2);
    expect(second.calls).toHaveLength(1);
  });

  it('answers at once while the circuit of the first is open, without another call of the first', async () => {
    const model = 'status:500';
    for (let i = 0; i < 3; i++) await askOnce(model); // two failed calls each; five in a row open the circuit
    const callsBefore = first.calls.length;

    const reply = await askOnce(model);

    expect(reply).toMatchObject({ status: 'completed', model: 'length', attempt: 1 });
    expect(first.calls).toHaveLength(callsBefore);
  });

  it('is not asked where the first refuses the request', async () => {
    const callsBefore = second.calls.length;

    const reply = await askOnce('status:401');

    expect(reply).toMatchObject({ status: 'failed', error: { code: 'provider_rejected' }, attempt: 1 });
    expect(second.calls).toHaveLength(callsBefore);
  });

  it('is asked with its own key', () => {
    expect(second.calls.length).toBeGreaterThan(0);
    for (const { headers } of second.calls) expect(headers.authorization).toBe('Bearer key-of-the-second');
    for (const { headers } of first.calls) expect(headers.authorization).toBe('Bearer key-of-the-first');
  });
});
