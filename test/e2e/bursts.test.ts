import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ApiClient, Json } from '../support/api-client.js';
import { converse, expectAnswered, turnsOf } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    apis: 2,
    workers: 2,
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      CONTEXT_MAX_TOKENS: '100000',
      LIMIT_REPLY_MESSAGES: '100',
      // Four processes share one thread here: waiting for that is soon longer than the patience with a pool.
      DATABASE_POOL_MAX: '30',
    },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

/** All messages of a session, page by page. */
async function allMessages(guest: ApiClient, sessionId: string): Promise<Json[]> {
  const messages: Json[] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const query: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const { body } = await guest.get(`/v1/sessions/${sessionId}/messages?limit=100${query}`);
    messages.push(...body.data);
    cursor = body.nextCursor;
  }
  return messages;
}

/** What the prompt of each reply must hold: what came before, as far as it was answered, and what joined it. */
function expectedPrompts(messages: readonly Json[]): [string, string][][] {
  const turn = ({ sender, content }: Json): [string, string] => [
    sender === 'ai' ? 'assistant' : 'user',
    content,
  ];
  const order = messages.filter(({ sender }) => sender === 'ai').map(({ replyId }) => replyId);
  return order.map((replyId, index) => {
    const before = new Set(order.slice(0, index));
    return [
      ...messages.filter((message) => before.has(message.replyId)),
      ...messages.filter((message) => message.replyId === replyId && message.sender === 'user'),
    ].map(turn);
  });
}

describe('messages posted before an answer', () => {
  it('join the reply that is queued: one reply, queued once, answers them all in one prompt', async () => {
    const quiet = await Stack.start({ workers: 0, env: { OPENAI_BASE_URL: provider.baseUrl } });
    try {
      const { session, guest, cursor } = await converse(quiet, 'ok');
      const stream = guest.follow(session.id, { after: cursor });

      const posted = [];
      for (const content of ['Are you', 'open on', 'Sundays?'])
        posted.push(await guest.postMessage(session.id, content));
      await quiet.addWorker();
      const reply = await guest.finalReply(posted[0]!.reply.id);

      expect(posted.map((answer) => answer.reply.id)).toEqual(Array(3).fill(reply.id));
      expect(posted.map((answer) => answer.reply.status)).toEqual(Array(3).fill('queued'));
      expect(reply).toMatchObject({ status: 'completed', attempt: 1 });
      const call = await provider.callAbout('Sundays?');
      expect(turnsOf(call)).toEqual([
        ['user', 'Are you'],
        ['user', 'open on'],
        ['user', 'Sundays?'],
      ]);
      await stream.next('reply.completed');
      expect(stream.events.map(({ event }) => event).filter((event) => event !== 'reply.delta')).toEqual([
        'message.created',
        'reply.queued',
        'message.created',
        'message.created',
        'reply.started',
        'reply.completed',
      ]);
      const messages = await guest.messages(session.id);
      expect(messages).toHaveLength(4);
      expectAnswered(messages);
      await stream.close();
    } finally {
      await quiet.stop();
    }
  });

  it('queue the next reply while one is in progress, and only one, which does not see the later ones', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:50');
    const stream = guest.follow(session.id, { after: cursor });
    const first = await guest.postMessage(session.id, 'How much is a loaf?');
    await stream.next('reply.started', first.reply.id);

    const second = await guest.postMessage(session.id, 'And a cake?');
    const third = await guest.postMessage(session.id, 'And a pie?');
    await stream.next('reply.started', second.reply.id);
    const fourth = await guest.postMessage(session.id, 'And a roll?');

    expect(second.reply.id).not.toBe(first.reply.id);
    expect(second.reply).toMatchObject({ status: 'queued', attempt: 0 });
    expect(third.reply.id).toBe(second.reply.id);
    expect(fourth.reply.id).not.toBe(second.reply.id);
    const replies = [];
    for (const { reply } of [first, second, fourth]) replies.push(await guest.finalReply(reply.id));
    expect(replies.map(({ status }) => status)).toEqual(Array(3).fill('completed'));
    expect(replies[0].finishedAt <= replies[1].startedAt).toBe(true);
    expect(replies[1].finishedAt <= replies[2].startedAt).toBe(true);
    const [one, two, three] = ['How much is a loaf?', 'And a pie?', 'And a roll?'].map((question) =>
      provider.calls.find((call) => call.question === question)!,
    );
    expect(turnsOf(one!)).toEqual([['user', 'How much is a loaf?']]);
    expect(turnsOf(two!)).toEqual([
      ['user', 'How much is a loaf?'],
      ['assistant', answerTo('How much is a loaf?')],
      ['user', 'And a cake?'],
      ['user', 'And a pie?'],
    ]);
    // By sequence: the first answer was committed after the two questions that had waited for it.
    expect(turnsOf(three!)).toEqual([
      ['user', 'How much is a loaf?'],
      ['user', 'And a cake?'],
      ['user', 'And a pie?'],
      ['assistant', answerTo('How much is a loaf?')],
      ['assistant', answerTo('And a pie?')],
      ['user', 'And a roll?'],
    ]);
    await stream.next('reply.completed', fourth.reply.id);
    const order = stream.events
      .filter(({ event }) => /^reply\.(started|completed)$/.test(event))
      .map(({ event, data }) => [event, data.replyId ?? data.reply.id]);
    expect(order).toEqual(
      [first, second, fourth].flatMap(({ reply }) => [
        ['reply.started', reply.id],
        ['reply.completed', reply.id],
      ]),
    );
    expect(stream.ofType('reply.queued')).toHaveLength(3);
    const messages = await guest.messages(session.id);
    expectAnswered(messages);
    await stream.close();
  });

  it('may be fifty at once: numbered without a hole, one reply in progress and one queued at most, all answered', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:2');
    const stream = guest.follow(session.id, { after: cursor });
    let isWatching = true;
    const seen: { in_progress: number; queued: number }[] = [];
    const watching = (async () => {
      while (isWatching) {
        const [row] = await stack.database.query<{ in_progress: number; queued: number }>(
          `select count(*) filter (where status = 'in_progress')::int as in_progress,
             count(*) filter (where status = 'queued')::int as queued
           from replies where chat_session_id = $1`,
          [session.id],
        );
        seen.push(row!);
      }
    })();

    const posted = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        guest.at(stack.apis[index % 2]!.url).postMessage(session.id, `Burst question ${index}.`),
      ),
    );
    const replyIds = [...new Set(posted.map(({ reply }) => reply.id))];
    const replies = await Promise.all(replyIds.map((id) => guest.finalReply(id)));
    isWatching = false;
    await watching;

    expect(posted.map(({ message }) => message.sequence)).toHaveLength(50);
    expect(replies.map(({ status }) => status)).toEqual(Array(replies.length).fill('completed'));
    expect(Math.max(...seen.map((row) => row.in_progress))).toBe(1);
    expect(Math.max(...seen.map((row) => row.queued))).toBe(1);
    const messages = await allMessages(guest, session.id);
    expect(messages.filter(({ sender }) => sender === 'user')).toHaveLength(50);
    expectAnswered(messages);
    // Generated one after the other, and each asked about exactly what had joined it.
    const inOrder = replies.toSorted((a, b) => a.startedAt.localeCompare(b.startedAt));
    for (const [index, reply] of inOrder.entries()) {
      expect(reply.attempt).toBe(1);
      if (index > 0) expect(inOrder[index - 1].finishedAt <= reply.startedAt).toBe(true);
    }
    const prompts = provider.calls.filter(({ question }) => question.startsWith('Burst question'));
    expect(prompts.map(turnsOf)).toEqual(expectedPrompts(messages));
    await waitFor(
      'the last end to be told',
      () => stream.ofType('reply.completed').length === replies.length,
    );
    expect(stream.ofType('reply.queued')).toHaveLength(replies.length);
    expect(stream.ofType('message.created')).toHaveLength(50);
    for (const { data } of stream.ofType('reply.completed'))
      expect(stream.textOf(data.reply.id)).toBe(data.message.content);
    await stream.close();
  });
});
