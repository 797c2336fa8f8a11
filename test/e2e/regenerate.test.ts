import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Json } from '../support/api-client.js';
import { ask, converse, newQuestion, turnsOf, violations } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** Asking again for an answer that there is, and posting the same message again. */

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

const callsAbout = (question: string) => provider.calls.filter((call) => call.question.includes(question));
const superseded = (messages: Json[]) =>
  messages.map(({ sender, replyId, supersededBy }) => [sender, replyId, supersededBy]);

describe('retrying an answer', () => {
  it('supersedes it when the new one completes, in rows, event and prompts', async () => {
    const { session, guest } = await converse(stack);
    const question = newQuestion();
    const first = await ask({ session, guest }, question);
    const stream = await guest.follow(session.id).opened();

    const { status, body: second } = await guest.post(`/v1/replies/${first.id}/retry`);
    expect([status, second.retryOf]).toEqual([202, first.id]);
    await guest.finalReply(second.id);
    const third = (await guest.post(`/v1/replies/${second.id}/retry`)).body;
    await guest.finalReply(third.id);

    expect(superseded(await guest.messages(session.id))).toEqual([
      ['user', third.id, null],
      ['ai', first.id, second.id],
      ['ai', second.id, third.id],
      ['ai', third.id, null],
    ]);
    const ends = [
      await stream.next('reply.completed', second.id),
      await stream.next('reply.completed', third.id),
    ];
    await stream.close();
    expect(ends.map(({ data }) => data.superseded)).toEqual([[first.messageId], [ends[0]!.data.message.id]]);
    // None of its own prompts held an answer to its question; what follows holds the last.
    for (const call of callsAbout(question)) expect(turnsOf(call)).toEqual([['user', question]]);
    const next = newQuestion();
    await ask({ session, guest }, next);
    expect(turnsOf(callsAbout(next)[0]!)).toEqual([
      ['user', question],
      ['assistant', answerTo(question)],
      ['user', next],
    ]);
    expect(await violations(stack)).toEqual([]);
  });

  it('leaves it valid where the new one is stopped, whose text is superseded with it by a third', async () => {
    const { session, guest, owner, chatbotId } = await converse(stack);
    const question = newQuestion();
    const first = await ask({ session, guest }, question);
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'stall-mid' });
    const second = (await guest.post(`/v1/replies/${first.id}/retry`)).body;
    await waitFor('text', async () => (await guest.get(`/v1/replies/${second.id}`)).body.firstTokenAt);
    await guest.post(`/v1/replies/${second.id}/cancel`);
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });

    expect(superseded(await guest.messages(session.id))).toEqual([
      ['user', second.id, null],
      ['ai', first.id, null],
      ['ai', second.id, null],
    ]);
    const third = (await guest.post(`/v1/replies/${second.id}/retry`)).body;
    await guest.finalReply(third.id);

    expect(superseded(await guest.messages(session.id))).toEqual([
      ['user', third.id, null],
      ['ai', first.id, third.id],
      ['ai', second.id, third.id],
      ['ai', third.id, null],
    ]);
    expect(turnsOf(callsAbout(question).at(-1)!)).toEqual([['user', question]]);
  });

  it('fails without a trace in what the model is told next', async () => {
    const { session, guest, owner, chatbotId } = await converse(stack);
    const question = newQuestion();
    const first = await ask({ session, guest }, question);
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'status:401' });
    const second = (await guest.post(`/v1/replies/${first.id}/retry`)).body;
    expect(await guest.finalReply(second.id)).toMatchObject({ status: 'failed' });
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });

    const next = newQuestion();
    await ask({ session, guest }, next);

    expect((await guest.messages(session.id)).map(({ supersededBy }) => supersededBy)).toEqual(
      Array(4).fill(null),
    );
    expect(turnsOf(callsAbout(next)[0]!)).toEqual([
      ['user', question],
      ['assistant', answerTo(question)],
      ['user', next],
    ]);
  });

  it('becomes a reply as any other where a message joins it before it starts', async () => {
    const { session, guest } = await converse(stack);
    const question = newQuestion();
    const first = await ask({ session, guest }, question);
    const [worker] = stack.workers.splice(0, 1);
    await worker!.close();
    const retry = (await guest.post(`/v1/replies/${first.id}/retry`)).body;
    const next = newQuestion();
    const posted = await guest.postMessage(session.id, next);
    expect(posted.reply).toMatchObject({ id: retry.id, retryOf: null });
    await stack.addWorker();
    await guest.finalReply(retry.id);

    expect(superseded(await guest.messages(session.id))).toEqual([
      ['user', first.id, null],
      ['ai', first.id, null],
      ['user', retry.id, null],
      ['ai', retry.id, null],
    ]);
    expect(turnsOf(callsAbout(next)[0]!)).toEqual([
      ['user', question],
      ['assistant', answerTo(question)],
      ['user', next],
    ]);
    expect(await violations(stack)).toEqual([]);
  });
});

describe('a message with its sender’s own id', () => {
  const idOf = (question: string) => `message-${question.replaceAll(/[^\w.]/g, '')}`;
  const post = (guest: { post: (path: string, body: object) => Promise<Json> }, id: string, body: object) =>
    guest.post(`/v1/sessions/${id}/messages`, body);

  it('is stored once, however often and at once it is posted, and answered with the reply of now', async () => {
    const { session, guest } = await converse(stack);
    const content = newQuestion();
    const body = { content, clientMessageId: idOf(content) };
    const answers = await Promise.all(Array.from({ length: 8 }, () => post(guest, session.id, body)));
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(202));
    expect(new Set(answers.map((answer) => answer.body.message.id)).size).toBe(1);
    const replays = answers.filter(({ headers }) => headers.get('idempotency-replayed') === 'true');
    expect(replays).toHaveLength(7);
    const first = await guest.finalReply(answers[0].body.reply.id);
    const retried = (await guest.post(`/v1/replies/${first.id}/retry`)).body;
    await guest.finalReply(retried.id);

    const again = await post(guest, session.id, body);

    expect(again.body).toMatchObject({
      message: { id: answers[0].body.message.id, clientMessageId: body.clientMessageId },
      reply: { id: retried.id, status: 'completed' },
    });
    expect(callsAbout(content)).toHaveLength(2);
    // Whoever follows from there is told all that there is.
    const stream = guest.follow(session.id, { after: again.headers.get('x-event-cursor') });
    const { data } = await stream.next('session.snapshot');
    await stream.close();
    expect(data.messages).toHaveLength(3);
  });

  it('is another one in another session, and refused with another content', async () => {
    const { session, guest, chatbotId } = await converse(stack);
    const other = await stack.client().openSession(chatbotId);
    const body = { content: newQuestion(), clientMessageId: '!~' };
    const [one, two] = [await post(guest, session.id, body), await post(other.guest, other.session.id, body)];
    expect(one.body.message.id).not.toBe(two.body.message.id);
    const changed = await post(guest, session.id, { ...body, content: 'Something else?' });
    expect([changed.status, changed.body.code]).toEqual([422, 'idempotency_key_reused']);
  });

  it('is known beside an idempotency key, which is looked at first, and where nothing new is taken', async () => {
    const { session, guest, owner, chatbotId } = await converse(stack);
    const body = { content: newQuestion(), clientMessageId: 'one' };
    const headers = { 'idempotency-key': `key-${session.id}` };
    const send = (sent: object) => guest.post(`/v1/sessions/${session.id}/messages`, sent, headers);
    const first = await send(body);
    const otherId = await send({ ...body, clientMessageId: 'two' });
    expect([otherId.status, otherId.body.code]).toEqual([422, 'idempotency_key_reused']);
    await owner.patch(`/v1/chatbots/${chatbotId}`, { isEnabled: false });
    for (const answer of [await send(body), await post(guest, session.id, body)]) {
      expect([answer.status, answer.body.message?.id]).toEqual([202, first.body.message.id]);
    }
    const fresh = await post(guest, session.id, { ...body, clientMessageId: 'three' });
    expect([fresh.status, fresh.body.code]).toEqual([403, 'chatbot_disabled']);
    expect((await guest.messages(session.id)).filter(({ sender }) => sender === 'user')).toHaveLength(1);
  });

  it.each(['', ' ', 'with space', 'ä', 'x'.repeat(256), null, 7, {}, ['a']])('cannot be %j', async (id) => {
    const { session, guest } = await converse(stack);
    const { status, body } = await post(guest, session.id, { content: 'Hi', clientMessageId: id });
    expect([status, body.errors?.[0]?.pointer]).toEqual([400, '/clientMessageId']);
  });
});
