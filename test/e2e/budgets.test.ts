import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { ApiClient, Json } from '../support/api-client.js';
import { newQuestion } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor, whileTodayLasts } from '../support/wait.js';

/** What a chatbot may use in a day, and what its owner sees of that. */

/** As the provider counts each of its answers. */
const INPUT = 7;
const OUTPUT = 11;
const UNAVAILABLE = 'This chat is not available right now. Please try again later.';

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    workers: 2,
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-test',
      OPENAI_MODEL: 'ok',
      DAILY_TOKEN_BUDGET_MAX: '1000000',
    },
    timings: { budgetRetryIntervalMs: 20, reconcileIntervalMs: 200, attemptBackoffMs: 50 },
  });
});
beforeEach(whileTodayLasts);
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

const callsAbout = (text: string): number =>
  provider.calls.filter(({ question }) => question.includes(text)).length;

async function ask(guest: ApiClient, sessionId: string, question = newQuestion()): Promise<Json> {
  const { reply } = await guest.postMessage(sessionId, question);
  return guest.finalReply(reply.id);
}

async function usageOf(chatbotId: string, days = 1): Promise<Json[]> {
  const { status, body } = await stack.owner().get(`/v1/chatbots/${chatbotId}/usage?days=${days}`);
  expect(status).toBe(200);
  return body.days;
}

/** Once the reconciler has counted them, too. */
async function untilCounted(chatbotId: string): Promise<void> {
  await waitFor('the replies to be counted', async () => {
    const rows = await stack.database.query(
      `select 1 from replies where chatbot_id = '${chatbotId}' and not is_counted and finished_at is not null`,
    );
    return rows.length === 0;
  });
}

const today = (): string => new Date().toISOString().slice(0, 10);

describe('a chatbot whose budget of the day is spent', () => {
  it('says so as an answer, asks no model, and answers again when there is more', async () => {
    const chatbot = await stack.owner().createChatbot({
      name: 'Bakery',
      dailyTokenBudget: INPUT,
      unavailableMessage: '  We are closed for today. ',
    });
    const { session, guest } = await stack.client().openSession(chatbot.id);
    expect(await ask(guest, session.id)).toMatchObject({ status: 'completed', finishReason: 'stop' });
    const watching = guest.follow(session.id);

    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    const final = await guest.finalReply(reply.id);

    expect(final).toMatchObject({
      status: 'completed',
      finishReason: 'budget',
      attempt: 1,
      model: null,
      usage: null,
      error: null,
      characteristicsUsed: null,
    });
    expect(callsAbout(question)).toBe(0);
    expect((await guest.messages(session.id)).at(-1)).toMatchObject({
      sender: 'ai',
      content: '  We are closed for today. ',
      replyId: reply.id,
    });
    const started = await watching.next('reply.started');
    expect(started.data).toMatchObject({ attempt: 1 });
    const delta = await watching.next('reply.delta');
    expect(delta.data).toMatchObject({ offset: 0, text: '  We are closed for today. ' });
    const completed = await watching.next('reply.completed');
    expect(completed.data).toMatchObject({ reply: { finishReason: 'budget', usage: null } });
    await watching.close();

    // What was said instead of an answer is no part of the conversation for the model, and can be asked for again.
    await stack.owner().patch(`/v1/chatbots/${chatbot.id}`, { dailyTokenBudget: 1_000_000 });
    const { status, body: again } = await guest.post(`/v1/replies/${reply.id}/retry`);
    expect(status).toBe(202);
    expect(await guest.finalReply(again.id)).toMatchObject({ finishReason: 'stop', model: 'ok' });
    const call = await provider.callAbout(question);
    expect(JSON.stringify(call.body.messages)).not.toContain('closed for today');
    expect((await guest.messages(session.id)).at(-1)).toMatchObject({ content: answerTo(question) });
  });

  it.each([
    ['with a sentence of ours, where the owner says nothing', { dailyTokenBudget: 0 }, UNAVAILABLE],
    ['with nothing to spend', { dailyTokenBudget: 0, unavailableMessage: 'Never.' }, 'Never.'],
  ])('says so %s', async (_, fields, text) => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery', ...fields });
    const { session, guest } = await stack.client().openSession(id);

    expect(await ask(guest, session.id)).toMatchObject({ status: 'completed', finishReason: 'budget' });
    expect((await guest.messages(session.id)).at(-1)).toMatchObject({ content: text });
  });

  it('does not pass it by more than one reply, however many ask at once, and refuses none that fits', async () => {
    const replies = 24;
    const fitting = 10;
    const { id } = await stack.owner().createChatbot({
      name: 'Bakery',
      model: 'pace:5',
      dailyTokenBudget: fitting * (INPUT + OUTPUT) - 1,
    });
    const sessions = await Promise.all(Array.from({ length: replies }, () => stack.client().openSession(id)));

    const ended = await Promise.all(sessions.map(({ session, guest }) => ask(guest, session.id)));

    const reasons = ended.map(({ finishReason }) => finishReason);
    expect(reasons.filter((reason) => reason === 'stop')).toHaveLength(fitting);
    expect(reasons.filter((reason) => reason === 'budget')).toHaveLength(replies - fitting);
    await untilCounted(id);
    expect(await usageOf(id)).toMatchObject([
      {
        inputTokens: fitting * INPUT,
        outputTokens: fitting * OUTPUT,
        replies: { completed: fitting, budget: replies - fitting },
      },
    ]);
  });

  it('has what attempts said that no answer came of, while the reply is tried again and after it has failed', async () => {
    const owner = stack.owner();
    const chatbot = await owner.createChatbot({ name: 'Bakery', model: 'trunc-clean', dailyTokenBudget: 30 });
    const { session, guest } = await stack.client().openSession(chatbot.id);

    // Two attempts come to more than the budget, and a third is not made.
    const question = newQuestion();
    const reply = await ask(guest, session.id, question);
    expect(reply).toMatchObject({ status: 'completed', finishReason: 'budget', usage: null });
    expect(callsAbout(question)).toBeLessThan(3);

    const next = newQuestion();
    expect(await ask(guest, session.id, next)).toMatchObject({ finishReason: 'budget' });
    expect(callsAbout(next)).toBe(0);
    await untilCounted(chatbot.id);
    const days = await usageOf(chatbot.id);
    const tokens = days.reduce((sum, { inputTokens, outputTokens }) => sum + inputTokens + outputTokens, 0);
    expect(tokens).toBeGreaterThanOrEqual(30);
  });

  it('has what a reply said that failed for good', async () => {
    const owner = stack.owner();
    const chatbot = await owner.createChatbot({
      name: 'Bakery',
      model: 'err-mid:invalid_request',
      dailyTokenBudget: 100_000,
    });
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const question = newQuestion();
    const reply = await ask(guest, session.id, question);
    expect(reply).toMatchObject({ status: 'failed', usage: null });
    const [day] = await usageOf(chatbot.id);
    const attempts = callsAbout(question);
    expect(attempts).toBeGreaterThan(0);
    expect(day!.outputTokens).toBeGreaterThanOrEqual(9 * attempts); // nine words each
    await untilCounted(chatbot.id);
    expect((await usageOf(chatbot.id))[0]).toMatchObject({ outputTokens: day!.outputTokens });
  });

  it('keeps nothing reserved for a reply whose worker was lost', async () => {
    const { id } = await stack
      .owner()
      .createChatbot({ name: 'Bakery', dailyTokenBudget: 2 * (INPUT + OUTPUT) });
    const { session, guest } = await stack.client().openSession(id);
    await ask(guest, session.id);
    // As a worker leaves it that is gone, and a reconciler finds it.
    await stack.database.query(
      `update replies set reserved_tokens = 100000 where chatbot_id = '${id}' and finished_at is not null`,
    );

    expect(await ask(guest, session.id)).toMatchObject({ finishReason: 'stop' });
  });

  it('begins anew with the day of UTC', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery', dailyTokenBudget: INPUT });
    const { session, guest } = await stack.client().openSession(id);
    await ask(guest, session.id);
    expect(await ask(guest, session.id)).toMatchObject({ finishReason: 'budget' });
    await untilCounted(id);

    await stack.database.query(`update usage_days set day = day - 1 where chatbot_id = '${id}'`);

    expect(await ask(guest, session.id)).toMatchObject({ finishReason: 'stop' });
  });
});

describe('the budget of a chatbot', () => {
  it('is the operator’s where the owner says nothing, and never more than the maximum', async () => {
    const small = await stack.addWorker({ DAILY_TOKEN_BUDGET: '0' });
    try {
      await Promise.all(stack.workers.filter((worker) => worker !== small).map((worker) => worker.close()));
      const { id } = await stack.owner().createChatbot({ name: 'Bakery' });
      const { session, guest } = await stack.client().openSession(id);

      expect(await ask(guest, session.id)).toMatchObject({ finishReason: 'budget' });
      await stack.owner().patch(`/v1/chatbots/${id}`, { dailyTokenBudget: 1_000_000 });
      expect(await ask(guest, session.id)).toMatchObject({ finishReason: 'stop' });
    } finally {
      await small.close();
      await stack.addWorker();
    }
  });

  it.each<[unknown, string]>([
    [-1, 'must be a whole number from 0 to 2000000000, or null'],
    [1.5, 'must be a whole number from 0 to 2000000000, or null'],
    ['5', 'must be a whole number from 0 to 2000000000, or null'],
    [2_000_000_001, 'must be a whole number from 0 to 2000000000, or null'],
    [1e300, 'must be a whole number from 0 to 2000000000, or null'],
    [true, 'must be a whole number from 0 to 2000000000, or null'],
    [[], 'must be a whole number from 0 to 2000000000, or null'],
    [1_000_001, 'must be at most 1000000 on this server'],
  ])('cannot be %j', async (dailyTokenBudget, message) => {
    const { id } = await stack.owner().createChatbot();
    for (const { status, body } of [
      await stack.owner().post('/v1/chatbots', { name: 'Bakery', dailyTokenBudget }),
      await stack.owner().patch(`/v1/chatbots/${id}`, { dailyTokenBudget }),
    ]) {
      expect(status).toBe(400);
      expect(body.errors).toEqual([{ pointer: '/dailyTokenBudget', message }]);
    }
  });

  it('is taken away with null', async () => {
    const { id } = await stack
      .owner()
      .createChatbot({ name: 'Bakery', dailyTokenBudget: 5, unavailableMessage: 'No.' });
    const { body } = await stack
      .owner()
      .patch(`/v1/chatbots/${id}`, { dailyTokenBudget: null, unavailableMessage: null });

    expect(body).toMatchObject({ dailyTokenBudget: null, unavailableMessage: null });
  });
});

describe('the use of a chatbot', () => {
  it('is told by day, state and model, before it is counted and after', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery' });
    const { session, guest } = await stack.client().openSession(id);
    await ask(guest, session.id);
    await stack.owner().patch(`/v1/chatbots/${id}`, { model: 'fail:400:9' });
    expect(await ask(guest, session.id)).toMatchObject({ status: 'failed' });
    await stack.owner().patch(`/v1/chatbots/${id}`, { model: 'held' });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    const call = await provider.callAbout(question);
    await stack.owner().patch(`/v1/chatbots/${id}`, { model: 'pace:1' });
    await guest.postMessage(session.id, 'And this waits for it.');
    await guest.postMessage(session.id, 'And this joins.');
    await guest.post(`/v1/replies/${reply.id}/cancel`);
    call.release();
    const joined = (await guest.messages(session.id)).findLast(({ sender }) => sender === 'user');
    await guest.finalReply(joined!['replyId']);

    const expected = {
      date: today(),
      messages: 5,
      replies: { completed: 2, failed: 1, cancelled: 1, budget: 0 },
    };
    const [before] = await usageOf(id);
    expect(before).toMatchObject(expected);
    await untilCounted(id);
    const [after] = await usageOf(id);
    expect(after).toEqual(before);
    expect(after!['byModel']['ok']).toEqual({ replies: 1, inputTokens: INPUT, outputTokens: OUTPUT });
    const models = Object.values<Json>(after!['byModel']);
    expect(models.reduce((sum, { replies }) => sum + replies, 0)).toBe(4);
    expect(models.reduce((sum, { inputTokens }) => sum + inputTokens, 0)).toBe(after!['inputTokens']);
    expect(models.reduce((sum, { outputTokens }) => sum + outputTokens, 0)).toBe(after!['outputTokens']);
  });

  it('counts a message once, also where its reply was asked for again', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery', model: 'fail:400:1' });
    const { session, guest } = await stack.client().openSession(id);
    const failed = await ask(guest, session.id);
    const { body } = await guest.post(`/v1/replies/${failed['id']}/retry`);
    await guest.finalReply(body.id);

    expect(await usageOf(id)).toMatchObject([
      { messages: 1, replies: { completed: 1, failed: 1, cancelled: 0, budget: 0 } },
    ]);
  });

  it('stays when sessions are deleted, counted before or not', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery' });
    for (const isCountedBefore of [true, false]) {
      const { session, guest } = await stack.client().openSession(id);
      await ask(guest, session.id);
      if (isCountedBefore) await untilCounted(id);
      expect((await stack.owner().delete(`/v1/sessions/${session.id}`)).status).toBe(204);
    }

    expect(await usageOf(id)).toMatchObject([
      { messages: 2, replies: { completed: 2 }, inputTokens: 2 * INPUT, outputTokens: 2 * OUTPUT },
    ]);
  });

  it('has every day, today last, thirty where nothing else is asked for', async () => {
    const { id } = await stack.owner().createChatbot();
    const days = (await stack.owner().get(`/v1/chatbots/${id}/usage`)).body.days;

    expect(days).toHaveLength(30);
    expect(days.at(-1)).toEqual({
      date: today(),
      messages: 0,
      replies: { completed: 0, failed: 0, cancelled: 0, budget: 0 },
      inputTokens: 0,
      outputTokens: 0,
      byModel: {},
    });
    expect(await usageOf(id, 90)).toHaveLength(90);
    for (const bad of ['0', '91', '-1', '1.5', 'x', '', '1e1', '1&days=2']) {
      const { status, body } = await stack.owner().get(`/v1/chatbots/${id}/usage?days=${bad}`);
      expect([bad, status, body.code]).toEqual([bad, 400, 'invalid_request']);
    }
    expect((await stack.owner('user_other').get(`/v1/chatbots/${id}/usage`)).status).toBe(404);
  });
});

describe('the models that owners may name', () => {
  it('are those that the operator lists', async () => {
    const { url } = await stack.addApi({ ALLOWED_MODELS: 'gpt-5, gpt-5-mini' });
    const owner = stack.owner().at(url);
    for (const model of ['ok', 'gpt-5', 'gpt-5-mini', null]) {
      expect((await owner.post('/v1/chatbots', { name: 'Bakery', model })).status).toBe(201);
    }
    const { status, body } = await owner.post('/v1/chatbots', { name: 'Bakery', model: 'gpt-5-pro' });
    expect(status).toBe(400);
    expect(body.errors).toEqual([
      { pointer: '/model', message: 'must be one of ok, gpt-5, gpt-5-mini, or null' },
    ]);
    expect((await stack.owner().post('/v1/chatbots', { name: 'Bakery', model: 'any' })).status).toBe(201);
  });

  it('are the configured ones where nothing is listed', async () => {
    const { url } = await stack.addApi({ ALLOWED_MODELS: '', OPENAI_FALLBACK_MODEL: 'second' });
    const owner = stack.owner().at(url);
    expect((await owner.post('/v1/chatbots', { name: 'Bakery', model: 'second' })).status).toBe(201);
    expect((await owner.post('/v1/chatbots', { name: 'Bakery', model: 'third' })).status).toBe(400);
  });

  it('do not stop a chatbot that has another: OPENAI_MODEL answers', async () => {
    const strict = await stack.addWorker({ ALLOWED_MODELS: '' });
    await Promise.all(stack.workers.filter((worker) => worker !== strict).map((worker) => worker.close()));
    const { id } = await stack.owner().createChatbot({ name: 'Bakery', model: 'fail:400:9' });
    const { session, guest } = await stack.client().openSession(id);
    const question = newQuestion();

    expect(await ask(guest, session.id, question)).toMatchObject({ status: 'completed' });
    expect((await provider.callAbout(question)).model).toBe('ok');
  });
});
