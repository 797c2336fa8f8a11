import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LLMock } from '@copilotkit/aimock';
import type { ApiClient, Json } from '../support/api-client.js';
import { ask } from '../support/conversations.js';
import { Stack } from '../support/stack.js';

/** An OpenAI-compatible server that others wrote: it refuses what does not look like OpenAI's protocol to it. */
let model: LLMock;
let stack: Stack;
beforeAll(async () => {
  model = new LLMock({ port: 0, chunkSize: 7 });
  await model.start();
  stack = await Stack.start({
    env: {
      OPENAI_BASE_URL: `${model.url}/v1`,
      OPENAI_API_KEY: 'sk-for-the-mock',
      OPENAI_MODEL: 'the-default-model',
    },
  });
});
afterAll(async () => {
  await stack.stop();
  await model.stop();
});

const CHARACTERISTICS = [
  'We are open from 7 to 18.',
  'A loaf costs 4 euros.\nA cake costs 20.',
  'Ask for Rosa.',
];

async function meet(chatbot: object = {}): Promise<{ session: Json; guest: ApiClient; cursor: string }> {
  const { id } = await stack
    .owner()
    .createChatbot({ name: 'Crumb & Sons', characteristics: CHARACTERISTICS, ...chatbot });
  return stack.client().openSession(id, { guest: { name: 'Ada Lovelace' } });
}

/** The request that ended with this question, as the server received it. */
function requestAbout(question: string): Json {
  const entry = model
    .getRequests()
    .findLast(({ body }) => (body as Json)?.messages?.at(-1)?.content === question);
  if (!entry) throw new Error(`nobody asked "${question}"`);
  return entry;
}

describe('an OpenAI-compatible server', () => {
  it('is told the chatbot’s name, all of its characteristics and the guest’s name', async () => {
    model.onMessage('When do you open?', { content: 'At seven.' });
    const { session, guest } = await meet();

    await ask({ session, guest }, 'When do you open?');

    const { messages } = requestAbout('When do you open?').body;
    expect(messages[0].role).toBe('system');
    expect(messages[0].content).toContain('Crumb & Sons');
    expect(messages[0].content).toContain('Ada Lovelace');
    for (const characteristic of CHARACTERISTICS) expect(messages[0].content).toContain(characteristic);
    const places = CHARACTERISTICS.map((characteristic) => messages[0].content.indexOf(characteristic));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  });

  it('is told the conversation with its roles and in its order, the greeting without the guest’s name', async () => {
    model.onMessage('What is a loaf?', { content: 'Four euros.' });
    model.onMessage('And a cake?', { content: 'Twenty.' });
    model.onMessage('Whom do I ask?', { content: 'Rosa.' });
    const { session, guest } = await meet({ greeting: 'Good morning, {name}!' });

    await ask({ session, guest }, 'What is a loaf?');
    await ask({ session, guest }, 'And a cake?');
    await ask({ session, guest }, 'Whom do I ask?');

    expect(requestAbout('Whom do I ask?').body.messages.slice(1)).toEqual([
      { role: 'user', content: '(The guest opens the chat.)' },
      { role: 'assistant', content: 'Good morning, !' },
      { role: 'user', content: 'What is a loaf?' },
      { role: 'assistant', content: 'Four euros.' },
      { role: 'user', content: 'And a cake?' },
      { role: 'assistant', content: 'Twenty.' },
      { role: 'user', content: 'Whom do I ask?' },
    ]);
  });

  it('is asked to stream, with the usage, for the configured model', async () => {
    model.onMessage('Who are you?', { content: 'A bakery.' });
    const { session, guest } = await meet();

    const reply = await ask({ session, guest }, 'Who are you?');

    const { path, headers, body } = requestAbout('Who are you?');
    expect(path).toBe('/v1/chat/completions');
    expect(headers['content-type']).toMatch(/^application\/json/);
    expect(body).toMatchObject({
      model: 'the-default-model',
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(reply.model).toBe('the-default-model');
  });

  it('is asked for the chatbot’s own model where it has one', async () => {
    model.onMessage('Which model?', { content: 'Mine.' });
    const { session, guest } = await meet({ model: 'the-chatbots-own' });

    const reply = await ask({ session, guest }, 'Which model?');

    expect(requestAbout('Which model?').body.model).toBe('the-chatbots-own');
    expect(reply.model).toBe('the-chatbots-own');
  });

  it('has its answer streamed to the watchers and stored, and its usage recorded as it was sent', async () => {
    const content = 'We bake every night: bread 🍞, naïve café cake, 漢字 rolls. Come at seven!';
    model.onMessage('What do you bake?', {
      content,
      usage: { prompt_tokens: 321, completion_tokens: 45, total_tokens: 366 },
    });
    const { session, guest, cursor } = await meet();
    const stream = guest.follow(session.id, { after: cursor });

    const reply = await ask({ session, guest }, 'What do you bake?');

    expect(reply).toMatchObject({
      status: 'completed',
      finishReason: 'stop',
      usage: { inputTokens: 321, outputTokens: 45, estimated: false },
    });
    const completed = await stream.next('reply.completed', reply.id);
    expect(stream.textOf(reply.id)).toBe(content);
    expect(completed.data.message.content).toBe(content);
    expect((await guest.messages(session.id)).at(-1).content).toBe(content);
    await stream.close();
  });

  it('that fails once is asked once more', async () => {
    model.onMessage('Do you deliver?', { content: 'We do.' });
    const { session, guest } = await meet();
    model.nextRequestError(503, { message: 'overloaded', type: 'server_error' });

    const reply = await ask({ session, guest }, 'Do you deliver?');

    expect(reply).toMatchObject({ status: 'completed', attempt: 2 });
    expect((await guest.messages(session.id)).at(-1).content).toBe('We do.');
  });
});
