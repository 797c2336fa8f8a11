import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ApiClient, Answer, Json } from '../support/api-client.js';
import { converse, newQuestion } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** How much one reply answers, and one session holds. */

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-test',
      LIMIT_REPLY_MESSAGES: '3',
      LIMIT_REPLY_CHARS: '10000',
      LIMIT_SESSION_MESSAGES: '10',
      LIMIT_SESSION_CHARS: '100000',
    },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

const post = (guest: ApiClient, session: Json, content = newQuestion()): Promise<Answer<Json>> =>
  guest.post(`/v1/sessions/${session.id}/messages`, { content });

const FULL = { status: 429, body: { code: 'reply_full' } };

/** A session in which one reply is being made and another is queued for what is posted. */
async function busy(): Promise<{ guest: ApiClient; session: Json; question: string; first: Json }> {
  const { guest, session } = await converse(stack, 'held');
  const question = newQuestion();
  const { reply: first } = await guest.postMessage(session.id, question);
  await provider.callAbout(question);
  return { guest, session, question, first };
}

describe('messages that wait for one reply', () => {
  it('are as many as the limit says, and again as many once that reply has begun', async () => {
    const { guest, session, question, first } = await busy();
    const joined = [];
    for (let n = 0; n < 3; n++) joined.push(await guest.postMessage(session.id, newQuestion()));

    const refused = await post(guest, session);

    expect(refused).toMatchObject(FULL);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    const { body } = await guest.get(`/v1/sessions/${session.id}/messages`);
    expect(body.data).toHaveLength(4); // nothing of what was refused is stored

    (await provider.callAbout(question)).release();
    await guest.finalReply(first.id);
    await waitFor('the next reply to begin', async () => (await post(guest, session)).status === 202);
  });

  it('have as many characters as the limit says', async () => {
    const { guest, session, question } = await busy();
    expect((await post(guest, session, 'x'.repeat(8_000))).status).toBe(202);

    expect(await post(guest, session, 'x'.repeat(2_001))).toMatchObject(FULL);
    expect((await post(guest, session, 'x'.repeat(2_000))).status).toBe(202);
    (await provider.callAbout(question)).release();
  });

  it('that were taken are answered the same to who sends them again, also when the reply is full', async () => {
    const { guest, session, question } = await busy();
    const again = (): Promise<Answer<Json>> =>
      guest.post(`/v1/sessions/${session.id}/messages`, { content: 'Once?' }, { 'idempotency-key': 'once' });
    const taken = await again();
    for (let n = 0; n < 2; n++) await guest.postMessage(session.id, newQuestion());
    expect(await post(guest, session)).toMatchObject(FULL);

    expect(await again()).toMatchObject({ status: 202, body: { message: { id: taken.body.message.id } } });
    (await provider.callAbout(question)).release();
  });
});

describe('a session', () => {
  const FULL_SESSION = { status: 409, body: { code: 'session_full' } };

  it('holds as many messages as the limit says, answers included, and goes on being read', async () => {
    const { guest, session } = await converse(stack);
    for (let n = 0; n < 5; n++) {
      const { reply } = await guest.postMessage(session.id, newQuestion());
      await guest.finalReply(reply.id);
    }

    expect(await post(guest, session)).toMatchObject(FULL_SESSION);
    expect((await guest.get(`/v1/sessions/${session.id}/messages`)).body.data).toHaveLength(10);
    expect((await guest.get(`/v1/sessions/${session.id}`)).body.messageCount).toBe(10);
  });

  it('holds as many characters as the limit says, answers included', async () => {
    const { guest, session } = await converse(stack, 'length');
    let sent = 0;
    let answer: Answer<Json>;
    for (answer = await post(guest, session, 'x'.repeat(8_000)); answer.status === 202; sent++) {
      await guest.finalReply(answer.body.reply.id);
      answer = await post(guest, session, 'x'.repeat(8_000));
      if (sent === 3) {
        await stack.database.query(
          `update chat_sessions set message_chars = 95000, message_count = 2 where id = '${session.id}'`,
        );
      }
    }
    expect(answer).toMatchObject(FULL_SESSION);
    expect(sent).toBeLessThan(6);
  });
});
