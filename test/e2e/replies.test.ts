import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ask, callsAbout, converse, newQuestion, turnsOf } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

const API_KEY = 'sk-canary-5f1d0c';
const REPLY_ATTEMPTS = 2;
const REPLY_MAX_CHARS = 2_000;

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    timings: {
      attemptBackoffMs: 50,
      pollReadIntervalMs: 60_000, // a poll learns of an end from the event stream
    },
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: API_KEY,
      OPENAI_MODEL: 'the-default-model',
      REPLY_ATTEMPTS: String(REPLY_ATTEMPTS),
      REPLY_MAX_CHARS: String(REPLY_MAX_CHARS),
      CONTEXT_MAX_TOKENS: '1200',
      LLM_IDLE_TIMEOUT_MS: '300',
      DRAIN_TIMEOUT_MS: '0', // what still hangs at the end is handed back
    },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

describe('posting a message', () => {
  it('answers 202 at once with the queued reply, its path, and the cursor from which both are told', async () => {
    const { session, guest } = await converse(stack, 'no-headers');

    const answer = await guest.post(`/v1/sessions/${session.id}/messages`, { content: 'Hello?' }); // the model never answers

    expect(answer.status).toBe(202);
    const { message, reply } = answer.body;
    expect(answer.headers.get('location')).toBe(`/v1/replies/${reply.id}`);
    expect(message).toEqual({
      id: expect.any(String),
      chatSessionId: session.id,
      sequence: 1,
      sender: 'user',
      content: 'Hello?',
      replyId: reply.id,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      clientMessageId: null,
      supersededBy: null,
    });
    expect(reply).toEqual({
      id: expect.any(String),
      chatSessionId: session.id,
      status: 'queued',
      messageId: null,
      retryOf: null,
      attempt: 0,
      model: null,
      finishReason: null,
      usage: null,
      error: null,
      createdAt: expect.any(String),
      startedAt: null,
      firstTokenAt: null,
      finishedAt: null,
      characteristicsUsed: null,
    });
    const stream = guest.follow(session.id, { after: answer.headers.get('x-event-cursor') ?? '' });
    await stream.next('reply.queued');
    expect(stream.events.slice(0, 2).map(({ event, data }) => [event, data])).toEqual([
      ['message.created', { message }],
      ['reply.queued', { reply }],
    ]);
    await stream.close();
  });

  it('is the owner’s to do too, as a user', async () => {
    const { session, owner, guest } = await converse(stack, 'ok');

    const posted = await owner.postMessage(session.id, 'Is this thing on?');

    expect(posted.message).toMatchObject({ sender: 'user', content: 'Is this thing on?' });
    expect(await guest.finalReply(posted.reply.id)).toMatchObject({ status: 'completed' });
    expect((await guest.messages(session.id)).map(({ sender }) => sender)).toEqual(['user', 'ai']);
  });

  it('puts the greeting into the history as the chatbot’s first words, without the guest’s name', async () => {
    const question = newQuestion();
    const owner = stack.owner();
    const chatbot = await owner.createChatbot({ name: 'Bakery', model: 'ok', greeting: 'Hello {name}!' });
    const { session, guest } = await stack.client().openSession(chatbot.id, { guest: { name: 'Ada' } });

    const { reply } = await guest.postMessage(session.id, question);

    await guest.finalReply(reply.id);
    expect(callsAbout(provider, question).map(turnsOf)).toEqual([
      [
        ['user', '(The guest opens the chat.)'], // strict templates want the user to begin
        ['assistant', 'Hello !'], // the guest's name is no word of the chatbot's
        ['user', question],
      ],
    ]);
    const messages = await guest.messages(session.id);
    expect(messages.map(({ sequence, sender, replyId }) => [sequence, sender, replyId])).toEqual([
      [1, 'ai', null],
      [2, 'user', reply.id],
      [3, 'ai', reply.id],
    ]);
  });
});

describe('a reply', () => {
  it('fills in its fields as it goes from queued over in progress to completed', async () => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, 'pace:40');
    const stream = guest.follow(session.id, { after: cursor });

    const { message, reply } = await guest.postMessage(session.id, question);
    const delta = await stream.next('reply.delta', reply.id);
    const speaking = await waitFor('the first token to be noted', async () => {
      const { body } = await guest.get(`/v1/replies/${reply.id}`);
      return body.firstTokenAt !== null && body;
    });
    const completed = await guest.finalReply(reply.id);

    expect(delta.data).toMatchObject({ replyId: reply.id, attempt: 1, offset: 0 });
    expect(speaking).toMatchObject({
      status: 'in_progress',
      attempt: 1,
      model: 'pace:40',
      messageId: null,
      finishReason: null,
      usage: null,
      startedAt: expect.any(String),
      finishedAt: null,
    });
    expect(completed).toMatchObject({
      id: reply.id,
      status: 'completed',
      attempt: 1,
      finishReason: 'stop',
      error: null,
      retryOf: null,
      startedAt: speaking.startedAt,
      firstTokenAt: speaking.firstTokenAt,
    });
    const times = [completed.createdAt, completed.startedAt, completed.firstTokenAt, completed.finishedAt];
    expect(times).toEqual(times.toSorted((a, b) => a.localeCompare(b)));
    const [, answer] = await guest.messages(session.id);
    expect(answer).toMatchObject({
      id: completed.messageId,
      sequence: 2,
      sender: 'ai',
      content: answerTo(question),
      replyId: reply.id,
    });
    expect(message.replyId).toBe(reply.id);
    await stream.close();
  });

  it('records the usage that the provider counted, and the model that spoke', async () => {
    const question = newQuestion();
    const { session, guest } = await converse(stack, null);
    const { reply } = await guest.postMessage(session.id, question);

    expect(await guest.finalReply(reply.id)).toMatchObject({
      model: 'the-default-model',
      usage: { inputTokens: 7, outputTokens: 11, estimated: false },
    });
    expect(callsAbout(provider, question)[0]).toMatchObject({
      model: 'the-default-model',
      headers: { authorization: `Bearer ${API_KEY}` },
    });
  });

  it('records an estimate of the usage where the provider counts nothing', async () => {
    const { session, guest } = await converse(stack, 'no-usage');
    const { reply } = await guest.postMessage(session.id, newQuestion());

    const { usage } = await guest.finalReply(reply.id);

    expect(usage.estimated).toBe(true);
    expect(usage.inputTokens).toBeGreaterThan(100); // the instructions alone are more
    expect(usage.outputTokens).toBeGreaterThan(20);
    expect(usage.outputTokens).toBeLessThan(100);
  });

  it('says so when the model ran out of room', async () => {
    const question = newQuestion();
    const { session, guest } = await converse(stack, 'length');
    const { reply } = await guest.postMessage(session.id, question);

    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', finishReason: 'length' });
    expect((await guest.messages(session.id))[1].content).toBe(answerTo(question));
  });

  it('is completed with exactly the characters that are allowed when the model does not stop', async () => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, 'endless');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, question);

    expect(await guest.finalReply(reply.id)).toMatchObject({
      status: 'completed',
      finishReason: 'length',
      attempt: 1,
      usage: { estimated: true },
    });
    const { content } = (await guest.messages(session.id))[1];
    expect(content).toHaveLength(REPLY_MAX_CHARS);
    expect(content).toBe('more and more and more '.repeat(100).slice(0, REPLY_MAX_CHARS));
    await stream.next('reply.completed');
    expect(stream.textOf(reply.id)).toBe(content);
    expect(await callsAbout(provider, question)[0]!.ended).toBe('client'); // nobody pays for what nobody reads
    await stream.close();
  });

  it('is made well-formed where the model sends halves of characters', async () => {
    const { session, guest, cursor } = await converse(stack, 'surrogates');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, newQuestion());

    await guest.finalReply(reply.id);

    const { content } = (await guest.messages(session.id))[1];
    expect(content).toContain('a😀');
    expect(content.isWellFormed()).toBe(true);
    expect(content).not.toContain('\0');
    await stream.next('reply.completed');
    expect(stream.textOf(reply.id)).toBe(content);
    await stream.close();
  });
});

describe('polling a reply', () => {
  it('answers as it is where no wait is asked for', async () => {
    const { session, guest } = await converse(stack, 'no-headers');
    const { reply } = await guest.postMessage(session.id, newQuestion());

    const { status, body } = await guest.get(`/v1/replies/${reply.id}`);

    expect(status).toBe(200);
    expect(['queued', 'in_progress']).toContain(body.status);
  });

  it('with a wait, answers as soon as the reply is final', async () => {
    const { session, guest } = await converse(stack, 'pace:40');
    const { reply } = await guest.postMessage(session.id, newQuestion());

    const startedAt = performance.now();
    const { body } = await guest.get(`/v1/replies/${reply.id}?wait=30`);

    expect(body.status).toBe('completed');
    expect(performance.now() - startedAt).toBeLessThan(30_000); // told by the event stream: the row is not read again so soon
  });

  it('with a wait, answers after that many seconds where the reply is not final by then', async () => {
    const { session, guest } = await converse(stack, 'no-headers');
    const { reply } = await guest.postMessage(session.id, newQuestion());

    const startedAt = performance.now();
    const { body } = await guest.get(`/v1/replies/${reply.id}?wait=1`);
    const tookMs = performance.now() - startedAt;

    expect(body.status).toBe('in_progress');
    expect(tookMs).toBeGreaterThanOrEqual(990);
    expect(tookMs).toBeLessThan(30_000);
  });

  it.each(['-1', '31', '1.5', 'abc', ''])('refuses a wait of "%s"', async (wait) => {
    const { session, guest } = await converse(stack, 'no-headers');
    const { reply } = await guest.postMessage(session.id, newQuestion());

    const { status, body } = await guest.get(`/v1/replies/${reply.id}?wait=${wait}`);

    expect(status).toBe(400);
    expect(body.errors).toEqual([{ pointer: 'wait', message: expect.any(String) }]);
  });

  it('ends with the reply as it is when the api stops', async () => {
    const { session, guest } = await converse(stack, 'no-headers');
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    const other = await stack.addApi();
    const poll = guest.at(other.url).get(`/v1/replies/${reply.id}?wait=30`);
    await provider.callAbout(question);
    await guest.at(other.url).get(`/v1/replies/${reply.id}?wait=1`); // the poll has arrived by then

    const startedAt = performance.now();
    await other.app.close();
    const { status, body } = await poll;

    expect(status).toBe(200);
    expect(body.status).toBe('in_progress');
    expect(performance.now() - startedAt).toBeLessThan(20_000); // the poll would have gone on for longer
  });
});

describe('a failing provider', () => {
  /** Nothing that the provider said, and nothing about how it is reached. */
  function expectNoTrace(...told: unknown[]): void {
    const text = JSON.stringify(told);
    expect(text).not.toContain(API_KEY);
    expect(text).not.toContain(new URL(provider.baseUrl).host);
    expect(text).not.toMatch(/Failed with \d|unexpected|stack|ECONN/i);
  }

  it.each([
    ['a wrong key', 'status:401', 'provider_rejected'],
    ['a model that does not exist', 'status:404', 'provider_rejected'],
    ['a bill that was not paid', 'quota', 'provider_rejected'],
    ['a refusal without a text', 'refusal', 'provider_rejected'],
    ['an answer without a text', 'blank', 'empty_reply'],
  ])('fails a reply at once over %s, with a single call', async (_, model, code) => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, model);
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, question);

    const failed = await guest.finalReply(reply.id);

    expect(failed).toMatchObject({
      status: 'failed',
      attempt: 1,
      messageId: null,
      finishReason: null,
      error: { code, detail: expect.any(String) },
      finishedAt: expect.any(String),
    });
    expect(callsAbout(provider, question)).toHaveLength(1);
    expect(await guest.messages(session.id)).toHaveLength(1);
    const event = await stream.next('reply.failed', reply.id);
    expect(event.data).toEqual({ reply: failed, message: null });
    expectNoTrace(failed, stream.events);
    await stream.close();
  });

  it('is asked again after a passing fault, and only the text of the last attempt counts', async () => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, 'fail:500:1');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, question);

    const completed = await guest.finalReply(reply.id);

    expect(completed).toMatchObject({ status: 'completed', attempt: 2, error: null });
    expect(callsAbout(provider, question)).toHaveLength(2);
    await stream.next('reply.completed');
    expect(stream.ofType('reply.started').map(({ data }) => data)).toEqual([
      { replyId: reply.id, attempt: 1 },
      { replyId: reply.id, attempt: 2 },
    ]);
    expect(stream.textOf(reply.id)).toBe(answerTo(question));
    expect((await guest.messages(session.id))[1].content).toBe(answerTo(question));
    await stream.close();
  });

  it.each([
    ['answers 500', 'status:500', 'provider_unavailable'],
    ['answers 429', '429:0', 'provider_rate_limited'],
    ['ends its stream in the middle', 'trunc-clean', 'provider_unavailable'],
    ['ends its stream without a word', 'empty', 'provider_unavailable'],
    ['ends its text without a finish', 'no-finish', 'provider_unavailable'],
    ['breaks the connection', 'rst', 'provider_unavailable'],
    ['falls silent in the middle', 'stall-mid', 'provider_timeout'],
  ])('fails a reply when it %s at every attempt, and no cut text is kept', async (_, model, code) => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, model);
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, question);

    const failed = await guest.finalReply(reply.id);

    expect(failed).toMatchObject({ status: 'failed', messageId: null, error: { code } });
    expect(failed.attempt).toBe(REPLY_ATTEMPTS);
    expect(callsAbout(provider, question)).toHaveLength(REPLY_ATTEMPTS);
    expect((await guest.messages(session.id)).map(({ sender }) => sender)).toEqual(['user']);
    await stream.next('reply.failed', reply.id);
    expect(stream.ofType('reply.completed')).toEqual([]);
    expectNoTrace(failed, stream.events);
    await stream.close();
  });

  it('that breaks off by its own word is asked again', async () => {
    const conversation = await converse(stack, 'reason:abort:1');
    const question = newQuestion();
    const reply = await ask(conversation, question);

    expect(reply).toMatchObject({ status: 'completed', attempt: 2, finishReason: 'stop' });
    expect((await conversation.guest.messages(conversation.session.id)).at(-1)!.content).toBe(
      answerTo(question),
    );
  });

  it('that only thinks is asked again, and what it thinks is shown to nobody', async () => {
    const conversation = await converse(stack, 'thought:1');
    const stream = conversation.guest.follow(conversation.session.id, { after: conversation.cursor });
    const question = newQuestion();
    const reply = await ask(conversation, question);

    expect(reply).toMatchObject({ status: 'completed', attempt: 2 });
    await stream.next('reply.completed', reply.id);
    expect(stream.textOf(reply.id)).toBe(answerTo(question));
    expect(stream.text).not.toContain('They ask');
    await stream.close();
  });

  it.each([
    ['sends counts that are none', 'odd-usage'],
    ['ends for a reason that nobody knows', 'reason:enough_said'],
  ])('that %s has answered all the same', async (_, model) => {
    const conversation = await converse(stack, model);
    const question = newQuestion();
    const reply = await ask(conversation, question);

    expect(reply).toMatchObject({ status: 'completed', attempt: 1, finishReason: 'stop' });
    expect(reply.usage).toMatchObject({ estimated: model === 'odd-usage' });
    expect(reply.usage.inputTokens).toBeGreaterThan(0);
    expect((await conversation.guest.messages(conversation.session.id)).at(-1)!.content).toBe(
      answerTo(question),
    );
  });

  it('that answers whole after a cut attempt has its cut text dropped', async () => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, 'trunc-held');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);
    (await provider.callAbout(question)).release();

    const completed = await guest.finalReply(reply.id);

    expect(completed).toMatchObject({ status: 'completed', attempt: 2, model: 'trunc-held' });
    await stream.next('reply.completed');
    const texts = [1, 2].map((attempt) =>
      stream
        .ofType('reply.delta')
        .filter(({ data }) => data.attempt === attempt)
        .map(({ data }) => data.text)
        .join(''),
    );
    expect(answerTo(question).startsWith(texts[0]!)).toBe(true);
    expect(texts).toEqual([expect.stringMatching(/.+/), answerTo(question)]);
    expect((await guest.messages(session.id))[1].content).toBe(answerTo(question));
    await stream.close();
  });

  it('that finds the conversation too long is asked once more with half of it', async () => {
    const filler = 'we talked about bread and cake and about the opening hours of the shop; '.repeat(4);
    const { session, guest, owner, chatbotId } = await converse(stack, 'ok');
    for (let turn = 0; turn < 3; turn++) {
      const { reply } = await guest.postMessage(session.id, `${newQuestion()} ${filler}`);
      await guest.finalReply(reply.id);
    }
    const question = newQuestion();
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'ctx-above:6' });

    const { reply } = await guest.postMessage(session.id, question);
    const completed = await guest.finalReply(reply.id);

    expect(completed).toMatchObject({ status: 'completed', attempt: 1 });
    const [whole, half] = callsAbout(provider, question).map(turnsOf);
    expect(callsAbout(provider, question)).toHaveLength(2);
    expect(whole!.length).toBe(7); // three questions, three answers, and the last question
    expect(half!.length).toBeLessThan(whole!.length);
    expect(half).toEqual(whole!.slice(-half!.length));
  });

  it('that always finds the conversation too long fails the reply with that', async () => {
    const question = newQuestion();
    const { session, guest } = await converse(stack, 'ctx');
    const { reply } = await guest.postMessage(session.id, question);

    expect(await guest.finalReply(reply.id)).toMatchObject({
      status: 'failed',
      attempt: 1,
      error: { code: 'context_too_long' },
    });
    expect(callsAbout(provider, question)).toHaveLength(2);
  });

  it('does not hold up the session: the reply queued behind a failed one is generated next', async () => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, `fail:500:${REPLY_ATTEMPTS}`);
    const stream = guest.follow(session.id, { after: cursor });
    const first = await guest.postMessage(session.id, question);
    await stream.next('reply.started', first.reply.id);

    // The same words again: the provider fails the first two calls about them, and answers the third.
    const second = await guest.postMessage(session.id, question);

    expect(second.reply.id).not.toBe(first.reply.id);
    expect(await guest.finalReply(first.reply.id)).toMatchObject({ status: 'failed', attempt: 2 });
    expect(await guest.finalReply(second.reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    expect(callsAbout(provider, question).map(turnsOf)).toEqual([
      [['user', question]],
      [['user', question]],
      [
        ['user', question],
        ['user', question],
      ],
    ]);
    await stream.close();
  });

  it('leaves the messages it did not answer in the history of the next reply', async () => {
    const [unanswered, question] = [newQuestion(), newQuestion()];
    const { session, guest, owner, chatbotId } = await converse(stack, 'status:401');
    const first = await guest.postMessage(session.id, unanswered);
    await guest.finalReply(first.reply.id);
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });

    const second = await guest.postMessage(session.id, question);

    expect(await guest.finalReply(second.reply.id)).toMatchObject({ status: 'completed' });
    expect(callsAbout(provider, question).map(turnsOf)).toEqual([
      [
        ['user', unanswered],
        ['user', question],
      ],
    ]);
    expect((await guest.messages(session.id)).map(({ sender, replyId }) => [sender, replyId])).toEqual([
      ['user', first.reply.id],
      ['user', second.reply.id],
      ['ai', second.reply.id],
    ]);
  });
});
