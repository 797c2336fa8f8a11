import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Stack } from '../support/stack.js';

describe('a guest’s message', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await Stack.start();
  });
  afterAll(() => stack.stop());

  it('is stored at once and answered by a worker, told event by event', async () => {
    const owner = stack.owner();
    const chatbot = await owner.createChatbot({
      name: 'Bakery',
      greeting: 'Hello {name}!',
      characteristics: ['We are open from 7 to 18.'],
    });
    const { session, messages, guest, cursor } = await stack
      .client()
      .openSession(chatbot.id, { guest: { name: 'Ada' } });
    expect(messages).toMatchObject([{ sequence: 1, sender: 'ai', content: 'Hello Ada!', replyId: null }]);
    const stream = guest.follow(session.id, { after: cursor });

    const posted = await guest.postMessage(session.id, 'When are you open?');
    const reply = await guest.finalReply(posted.reply.id);

    expect(reply).toMatchObject({ status: 'completed', attempt: 1, finishReason: 'stop', error: null });
    const completed = await stream.next('reply.completed');
    expect(completed.data.message).toMatchObject({ sender: 'ai', sequence: 3, replyId: reply.id });
    expect(stream.textOf(reply.id)).toBe(completed.data.message.content);
    expect(stream.events.map(({ event }) => event).filter((event) => event !== 'reply.delta')).toEqual([
      'message.created',
      'reply.queued',
      'reply.started',
      'reply.completed',
    ]);
    expect(await guest.messages(session.id)).toHaveLength(3);
    await stream.close();
  });
});
