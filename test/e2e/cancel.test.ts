import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { UNKNOWN_CURSOR } from '../../src/events/event-stream.js';
import { ask, converse } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { endOf, FINAL_EVENTS } from '../support/sse-recorder.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

describe('cancelling a reply', () => {
  let provider: RawProvider;
  let stack: Stack;
  beforeAll(async () => {
    provider = await startRawProvider();
    stack = await Stack.start({
      apis: 2,
      workers: 2,
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_MODEL: 'ok' },
    });
  });
  afterAll(async () => {
    await stack.stop();
    await provider.close();
  });

  it('closes the provider’s connection within a second and keeps the text shown so far', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:100');
    const stream = guest.follow(session.id, { after: cursor });
    const question = `Tell me everything about bread ${session.id}`;
    const { reply } = await guest.postMessage(session.id, question);
    await waitFor('some text', () => stream.textOf(reply.id).length > 10);
    const call = await provider.callAbout(question);

    const cancelledAt = Date.now();
    const answer = await guest.at(stack.apis[1]!.url).post(`/v1/replies/${reply.id}/cancel`);

    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({ status: 'cancelled', finishReason: 'cancelled', error: null });
    expect(answer.body.usage).toMatchObject({ estimated: true });
    expect(answer.body.usage.outputTokens).toBeGreaterThan(0);
    expect(await call.ended).toBe('client');
    expect(Date.now() - cancelledAt).toBeLessThan(1_000);
    const told = await stream.next('reply.cancelled');
    expect(told.data.message).toMatchObject({ sender: 'ai', replyId: reply.id });
    expect(stream.textOf(reply.id)).toBe(told.data.message.content);
    expect((await guest.messages(session.id)).at(-1)).toEqual(told.data.message);
    await stream.close();
  });

  it.each(['no-headers', 'stall-before', 'stall-mid'])(
    'stops a provider that is silent (%s) within a second',
    async (mode) => {
      const { session, guest } = await converse(stack, mode);
      const question = `Are you there ${session.id}?`;
      const { reply } = await guest.postMessage(session.id, question);
      const call = await provider.callAbout(question);
      if (mode === 'stall-mid')
        await waitFor('text', async () => (await guest.get(`/v1/replies/${reply.id}`)).body.firstTokenAt);

      const cancelledAt = Date.now();
      const answer = await guest.post(`/v1/replies/${reply.id}/cancel`);

      expect(answer.body.status).toBe('cancelled');
      expect(answer.body.messageId === null).toBe(mode !== 'stall-mid');
      expect(await call.ended).toBe('client');
      expect(Date.now() - cancelledAt).toBeLessThan(1_000);
    },
  );

  it('lets the session’s next reply go at once, and is idempotent', async () => {
    const { session, guest } = await converse(stack, 'stall-mid');
    const first = await guest.postMessage(session.id, 'One');
    await waitFor(
      'the start',
      async () => (await guest.get(`/v1/replies/${first.reply.id}`)).body.status === 'in_progress',
    );
    const second = await guest.postMessage(session.id, 'Two');
    expect(second.reply.id).not.toBe(first.reply.id);

    const answers = await Promise.all(
      [1, 2, 3].map(() => guest.post(`/v1/replies/${first.reply.id}/cancel`)),
    );

    for (const { status, body } of answers) expect([status, body.status]).toEqual([200, 'cancelled']);
    expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1);
    await waitFor(
      'the second to start',
      async () => (await guest.get(`/v1/replies/${second.reply.id}`)).body.status === 'in_progress',
      { timeoutMs: 7_000 }, // sooner than the reconciler looks after a due reply
    );
    expect((await guest.post(`/v1/replies/${second.reply.id}/cancel`)).body.status).toBe('cancelled');
  });

  it('makes no message of a reply that was still queued, and changes nothing on a completed one', async () => {
    const { session, guest } = await converse(stack, 'stall-before');
    const first = await guest.postMessage(session.id, 'One');
    await waitFor(
      'the start',
      async () => (await guest.get(`/v1/replies/${first.reply.id}`)).body.status === 'in_progress',
    );
    const queued = await guest.postMessage(session.id, 'Two');

    const answer = await guest.post(`/v1/replies/${queued.reply.id}/cancel`);

    expect(answer.body).toMatchObject({
      status: 'cancelled',
      messageId: null,
      usage: null,
      attempt: 0,
      startedAt: null,
    });
    await guest.post(`/v1/replies/${first.reply.id}/cancel`);
    const other = await converse(stack, 'ok');
    const completed = await ask(other);
    expect(completed.status).toBe('completed');
    expect((await other.guest.post(`/v1/replies/${completed.id}/cancel`)).body).toEqual(completed);
  });

  it('ends in exactly one state however it races with the finish', async () => {
    const chatbot = await stack.owner().createChatbot({ name: 'Bakery', model: 'ok' });
    const outcomes = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const { session, guest, cursor } = await stack.client(i % 2).openSession(chatbot.id);
        const stream = guest.follow(session.id, { after: cursor });
        const { reply } = await guest.postMessage(session.id, `Question ${i}`);
        const joining = new Promise((resolve) => setTimeout(resolve, (i % 15) * 10)).then(() =>
          guest.follow(session.id, { after: UNKNOWN_CURSOR }),
        );
        // Some lose the race for certain, however slow the machine is.
        if (i % 20 === 19) await stream.next('reply.completed', reply.id);
        else await new Promise((resolve) => setTimeout(resolve, (i % 20) * 10));
        const { body } = await guest.post(`/v1/replies/${reply.id}/cancel`);
        const late = await joining;
        const messages = (await guest.messages(session.id)).filter(({ sender }) => sender === 'ai');
        expect(messages).toHaveLength(body.messageId ? 1 : 0);
        for (const watcher of [stream, late]) {
          const end = await waitFor('the end', () => endOf(watcher.events, reply.id));
          // An event that completes says what it supersedes: nothing.
          const { superseded, ...ended } = { superseded: [], ...end };
          expect(ended).toEqual({ reply: body, message: messages[0] ?? null });
          expect(superseded).toEqual([]);
          expect(watcher.textOf(reply.id)).toBe(messages[0]?.content ?? '');
          const told = watcher.events
            .map(({ event }) => event)
            .filter((event) => FINAL_EVENTS.includes(event));
          expect([[], [`reply.${body.status}`]]).toContainEqual(told);
        }
        // An api whose event stream is slow gives no cursor of it: then this watcher begins with a snapshot as well.
        expect(stream.ofType('session.snapshot')).toHaveLength(cursor === UNKNOWN_CURSOR ? 1 : 0);
        expect((await guest.get(`/v1/replies/${reply.id}`)).body).toEqual(body);
        await Promise.all([stream.close(), late.close()]);
        return body.status as string;
      }),
    );
    expect(new Set(outcomes)).toEqual(new Set(['completed', 'cancelled']));
  });
});

describe('retrying a reply', () => {
  let provider: RawProvider;
  let stack: Stack;
  beforeAll(async () => {
    provider = await startRawProvider();
    stack = await Stack.start({ env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_MODEL: 'ok' } });
  });
  afterAll(async () => {
    await stack.stop();
    await provider.close();
  });

  it('answers the same messages anew, and leaves a cancelled text out of the prompt', async () => {
    const { session, guest, owner, chatbotId } = await converse(stack, 'stall-mid');
    const posted = await guest.postMessage(session.id, `What about rye ${session.id}?`);
    await waitFor('text', async () => (await guest.get(`/v1/replies/${posted.reply.id}`)).body.firstTokenAt);
    const cancelled = (await guest.post(`/v1/replies/${posted.reply.id}/cancel`)).body;
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });

    const answer = await guest.post(`/v1/replies/${cancelled.id}/retry`);

    expect(answer.status).toBe(202);
    expect(answer.headers.get('location')).toBe(`/v1/replies/${answer.body.id}`);
    expect(answer.body).toMatchObject({ status: 'queued', retryOf: cancelled.id, attempt: 0 });
    const completed = await guest.finalReply(answer.body.id);
    expect(completed).toMatchObject({ status: 'completed', retryOf: cancelled.id });
    const messages = await guest.messages(session.id);
    expect(messages.map(({ sender, replyId }) => [sender, replyId])).toEqual([
      ['user', completed.id],
      ['ai', cancelled.id],
      ['ai', completed.id],
    ]);
    const { messages: prompt } = provider.calls.at(-1)!.body;
    expect(prompt.map(({ role }) => role)).toEqual(['system', 'user']);
  });

  it('is refused for a reply that is not final, or not the latest', async () => {
    const { session, guest } = await converse(stack, 'stall-before');
    const first = await guest.postMessage(session.id, 'One');

    const early = await guest.post(`/v1/replies/${first.reply.id}/retry`);
    expect([early.status, early.body.code]).toEqual([409, 'reply_not_retryable']);
    await guest.post(`/v1/replies/${first.reply.id}/cancel`);
    const second = await guest.postMessage(session.id, 'Two');
    const overtaken = await guest.post(`/v1/replies/${first.reply.id}/retry`);
    expect([overtaken.status, overtaken.body.code]).toEqual([409, 'reply_not_retryable']);
    await guest.post(`/v1/replies/${second.reply.id}/cancel`);
    const retries = await Promise.all(
      [1, 2, 3, 4].map(() => guest.post(`/v1/replies/${second.reply.id}/retry`)),
    );
    expect(retries.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([202, 409, 409, 409]);
  });
});
