import { type AssistlyChunk, assistlyTransport } from 'assistly-client/ai';
import { describe, expect, it } from '@jest/globals';

/** The transport for the AI SDK, against a server that is played. */

interface Asked {
  url: string;
  method: string | undefined;
  authorization: string | null;
  body: unknown;
  signal: AbortSignal | null | undefined;
}

function transportTo(...answers: Response[]) {
  const asked: Asked[] = [];
  const transport = assistlyTransport({
    baseUrl: 'http://api/',
    sessionId: 's1',
    token: () => Promise.resolve('secret'),
    protocol: 7,
    fetch: (url, init) => {
      asked.push({
        url: String(url),
        method: init?.method,
        authorization: new Headers(init?.headers).get('authorization'),
        body: typeof init?.body === 'string' ? JSON.parse(init.body) : undefined,
        signal: init?.signal,
      });
      return Promise.resolve(answers.shift() ?? new Response(null, { status: 204 }));
    },
  });
  return { transport, asked };
}

/** A stream in pieces that end anywhere, within a letter too. */
const stream = (text: string): Response =>
  new Response(
    new ReadableStream({
      start(controller) {
        const bytes = new TextEncoder().encode(text);
        for (let at = 0; at < bytes.length; at += 7) controller.enqueue(bytes.slice(at, at + 7));
        controller.close();
      },
    }),
  );

async function read(chunks: ReadableStream<AssistlyChunk>): Promise<AssistlyChunk[]> {
  const all: AssistlyChunk[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

const CHUNKS: AssistlyChunk[] = [
  { type: 'start', messageId: 'r1' },
  { type: 'text-start', id: 't' },
  { type: 'text-delta', id: 't', delta: 'naïve 😀' },
  { type: 'text-end', id: 't' },
  { type: 'finish', finishReason: 'stop' },
];
const TEXT = `: hello\n\n${CHUNKS.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join('')}`;

const messages = [
  { id: 'u1', role: 'user', parts: [{ type: 'text', text: 'Hi' }] },
  { id: 'r0', role: 'assistant', parts: [{ type: 'text', text: 'Hello' }] },
  { id: 'u2', role: 'user', parts: [{ type: 'text', text: 'Are you open?' }] },
];
const submit = {
  trigger: 'submit-message' as const,
  chatId: 'my chat',
  messageId: undefined,
  messages,
  abortSignal: undefined,
};

describe('the transport for the AI SDK', () => {
  it('posts the last message, and gives the chunks of the answer', async () => {
    const { transport, asked } = transportTo(stream(`${TEXT}data: [DONE]\n\n`));

    const chunks = await read(await transport.sendMessages({ ...submit, body: { extra: 1 } }));

    expect(chunks).toEqual(CHUNKS);
    expect(asked).toMatchObject([
      {
        url: 'http://api/v1/sessions/s1/chat',
        method: 'POST',
        authorization: 'Bearer secret',
        body: {
          id: 'my chat',
          messages: [messages[2]],
          trigger: 'submit-message',
          protocol: 7,
          extra: 1,
        },
      },
    ]);
  });

  it('takes an answer without its end for a lost connection', async () => {
    const { transport } = transportTo(stream(TEXT));

    const chunks = await transport.sendMessages(submit);

    await expect(read(chunks)).rejects.toThrow(/network/);
  });

  it('reconnects, and gives nothing where nothing is being written', async () => {
    const { transport, asked } = transportTo(stream(`${TEXT}data: [DONE]\n\n`));

    expect(await read((await transport.reconnectToStream({ chatId: 'my chat' }))!)).toEqual(CHUNKS);
    expect(await transport.reconnectToStream({ chatId: 'my chat' })).toBeNull();
    expect(asked[0]).toMatchObject({
      url: 'http://api/v1/sessions/s1/chat/my%20chat/stream?protocol=7',
      method: 'GET',
    });
  });

  it('stops the model by stop(); the signal of the SDK only ends the stream', async () => {
    const { transport, asked } = transportTo(stream(TEXT));
    const leaving = new AbortController();
    await transport.sendMessages({ ...submit, abortSignal: leaving.signal });

    leaving.abort();
    expect(asked.map(({ signal }) => signal)).toEqual([leaving.signal]);
    await transport.stop();

    expect(asked[1]).toMatchObject({ url: 'http://api/v1/sessions/s1/chat/stop', method: 'POST' });
  });

  it('fails with the text that the server has for people', async () => {
    const { transport } = transportTo(
      new Response('Too much at once.', { status: 429, headers: { 'content-type': 'text/plain' } }),
      Response.json({ code: 'unauthorized', detail: 'No token.' }, { status: 401 }),
    );

    await expect(transport.sendMessages(submit)).rejects.toThrow('Too much at once.');
    await expect(transport.sendMessages(submit)).rejects.toThrow('No token.');
  });
});
