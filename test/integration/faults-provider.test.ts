import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { callsAbout, converse, dialogue, newQuestion, spoken, violations } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** Faults of the provider, through the whole product: section B of the fault plan. One store is enough. */

const REPLY_ATTEMPTS = 2;
/** Before the second attempt, less up to the half of it. */
const BACKOFF_MS = 200;

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    backend: 'postgres',
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-test',
      REPLY_ATTEMPTS: String(REPLY_ATTEMPTS),
      LLM_FIRST_TOKEN_TIMEOUT_MS: '600',
      LLM_IDLE_TIMEOUT_MS: '600',
      LLM_TOTAL_TIMEOUT_MS: '1500',
    },
    timings: { attemptBackoffMs: BACKOFF_MS, reconcileIntervalMs: 500 },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

describe('a provider', () => {
  // cases 26, 36 and 40
  it.each([
    ['sends no headers', 'no-headers'],
    ['says nothing', 'stall-before'],
    ['falls silent in the middle', 'stall-mid'],
    ['sends nothing but empty deltas', 'idle'],
    ['speaks so slowly that it never comes to an end', 'pace:300'],
  ])(
    'that %s is given up each time, with its connection, and nothing of it becomes an answer',
    async (_, model) => {
      const { session, guest, cursor } = await converse(stack, model);
      const stream = guest.follow(session.id, { after: cursor });
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);

      expect(await guest.finalReply(reply.id)).toMatchObject({
        status: 'failed',
        attempt: REPLY_ATTEMPTS,
        messageId: null,
        error: { code: 'provider_timeout' },
      });
      const calls = callsAbout(provider, question);
      expect(calls).toHaveLength(REPLY_ATTEMPTS);
      expect(await Promise.all(calls.map(({ ended }) => ended))).toEqual(calls.map(() => 'client'));
      expect(await guest.messages(session.id)).toHaveLength(1);
      await stream.next('reply.failed', reply.id);
      expect(stream.ofType('reply.completed')).toEqual([]);
      await stream.close();
    },
  );

  // cases 27, 28 and 35
  it.each(['rst', 'rst-before', 'bad-json', 'err-mid', 'trunc-clean', 'http10', 'no-finish'])(
    'that breaks off (%s) is asked again, and its half answer is never a part of the whole one',
    async (model) => {
      const { session, guest, cursor, chatbotId } = await converse(stack, model);
      const stream = guest.follow(session.id, { after: cursor });
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await waitFor('the first attempt to fail', async () => {
        const rows = await stack.database.query('select 1 from replies where id = $1 and failures = 1', [
          reply.id,
        ]);
        return rows.length === 1;
      });
      await stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });

      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 2 });
      expect(spoken(await guest.messages(session.id))).toEqual(dialogue(question));
      await stream.next('reply.completed', reply.id);
      expect(stream.ofType('reply.started').map(({ data }) => data.attempt)).toEqual([1, 2]);
      expect(stream.textOf(reply.id)).toBe(answerTo(question));
      await stream.close();
    },
  );

  // case 31
  it.each([
    ['in seconds', () => '2', 2_000],
    ['as a date', () => new Date(Date.now() + 3_000).toUTCString(), 2_000],
    ['as nonsense', () => 'soon', BACKOFF_MS / 2],
  ])('that says when it may be asked again, %s, is not asked earlier', async (_, retryAfter, leastMs) => {
    const { session, guest } = await converse(stack, `429:${retryAfter()}`);
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);

    const failed = await guest.finalReply(reply.id);

    expect(failed).toMatchObject({ status: 'failed', error: { code: 'provider_rate_limited' } });
    const [first, second, ...more] = callsAbout(provider, question);
    expect(more).toEqual([]);
    // A date has no fraction of a second, and was made before the first call.
    expect(second!.receivedAtMs - first!.receivedAtMs).toBeGreaterThanOrEqual(
      leastMs - (leastMs === 2_000 ? 300 : 0),
    );
  });

  // case 31
  it('that wants to be left alone for longer than the reply may live fails it at once', async () => {
    const { session, guest } = await converse(stack, '429:86400');
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);

    expect(await guest.finalReply(reply.id)).toMatchObject({
      status: 'failed',
      attempt: 1,
      error: { code: 'provider_rate_limited' },
    });
    expect(callsAbout(provider, question)).toHaveLength(1);
  });

  // case 40
  it.each(['status:500', 'status:503', 'status:529'])(
    'that always fails (%s) is called as often as a reply has attempts, and no more',
    async (model) => {
      const { session, guest } = await converse(stack, model);
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await guest.finalReply(reply.id);
      await sleep(500); // for a call too many
      expect(callsAbout(provider, question)).toHaveLength(REPLY_ATTEMPTS);
    },
  );

  // case 39
  it.each(['endless', 'huge-line'])(
    'that never stops (%s) costs little memory, and the others’ replies go on',
    async (model) => {
      const runaways = await Promise.all([1, 2].map(() => converse(stack, model)));
      const other = await converse(stack, 'pace:20');
      const before = process.memoryUsage().rss;
      let peak = before;
      const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
      const questions = runaways.map(() => newQuestion());
      const replies = await Promise.all(
        runaways.map(({ guest, session }, i) => guest.postMessage(session.id, questions[i]!)),
      );
      const question = newQuestion();
      const posted = await other.guest.postMessage(other.session.id, question);

      expect(await other.guest.finalReply(posted.reply.id)).toMatchObject({
        status: 'completed',
        attempt: 1,
      });
      for (const [i, { guest, session }] of runaways.entries()) {
        const reply = await guest.finalReply(replies[i]!.reply.id);
        const [, answer] = await guest.messages(session.id);
        if (model === 'endless') {
          expect(reply).toMatchObject({ status: 'completed', finishReason: 'length' });
          expect(answer.content).toHaveLength(32_000);
        } else {
          expect(reply).toMatchObject({ status: 'failed', messageId: null });
        }
        for (const call of callsAbout(provider, questions[i]!)) expect(await call.ended).toBe('client');
      }
      clearInterval(watch);
      // The provider lives in this process too, with what it has not got rid of.
      expect(peak - before).toBeLessThan(150 * 1024 * 1024);
    },
  );

  it('leaves nothing behind that must not be, after all of this', async () => {
    await waitFor('nothing unfinished', async () => (await violations(stack)).length === 0);
  });
});
