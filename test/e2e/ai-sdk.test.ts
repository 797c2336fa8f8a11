import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import type { ApiClient, Json } from '../support/api-client.js';
import { checkedFetch } from '../support/contract.js';
import { ask, callsAbout, converse, newQuestion } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** The AI SDK's protocol as it goes over the wire; its real clients are in test/clients. */

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    apis: 2,
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_MODEL: 'ok', OPENAI_API_KEY: 'sk-test' },
    timings: { attemptBackoffMs: 200, reconcileIntervalMs: 200 },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

const userMessage = (text: string, id = `m-${randomUUID()}`) => ({
  id,
  role: 'user',
  parts: [{ type: 'text', text }],
});

/** A UI message stream, read as it comes. */
class UiStream {
  readonly chunks: Json[] = [];
  /** How it ended: `done` with the mark of the protocol, `ended` without it, `cut` in between. */
  readonly end: Promise<'done' | 'ended' | 'cut'>;

  private constructor(
    readonly response: Response,
    private readonly leaving: AbortController,
  ) {
    this.end = this.read();
  }

  static async open(guest: ApiClient, method: string, path: string, body?: unknown): Promise<UiStream> {
    const leaving = new AbortController();
    const response = await checkedFetch(`${guest.baseUrl}${path}`, {
      method,
      signal: leaving.signal,
      headers: {
        authorization: `Bearer ${guest.token ?? ''}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return new UiStream(response, leaving);
  }

  get text(): string {
    const last = this.chunks.findLastIndex(({ type }) => type === 'text-start');
    return this.chunks
      .slice(last)
      .flatMap(({ type, delta }) => (type === 'text-delta' ? [delta] : []))
      .join('');
  }

  get types(): string[] {
    return this.chunks
      .map(({ type }) => type)
      .filter((type, i, all) => type !== 'text-delta' || all[i - 1] !== 'text-delta')
      .filter((type) => type !== 'data-reply');
  }

  of(type: string): Json[] {
    return this.chunks.filter((chunk) => chunk.type === type);
  }

  leave(): void {
    this.leaving.abort();
  }

  private async read(): Promise<'done' | 'ended' | 'cut'> {
    if (!this.response.ok || this.response.body === null || this.response.status === 204) return 'ended';
    try {
      const events = this.response.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
      for await (const { data, event } of events) {
        expect(event).toBeUndefined(); // some clients throw on it
        if (data === '[DONE]') return 'done';
        this.chunks.push(JSON.parse(data));
      }
      return 'ended';
    } catch {
      return 'cut';
    }
  }
}

const chat = (guest: ApiClient, id: string, body: object) =>
  UiStream.open(guest, 'POST', `/v1/sessions/${id}/chat`, body);
const send = (guest: ApiClient, id: string, text: string, more: object = {}) =>
  chat(guest, id, { id: 'local-chat', trigger: 'submit-message', messages: [userMessage(text)], ...more });
const resume = (guest: ApiClient, id: string, query = '') =>
  UiStream.open(guest, 'GET', `/v1/sessions/${id}/chat/local-chat/stream${query}`);
const history = async (guest: ApiClient, id: string): Promise<[string, string][]> =>
  (await guest.get(`/v1/sessions/${id}/chat`)).body.map(({ role, parts }: Json) => [role, parts[0].text]);

describe('a message that is sent', () => {
  it('is answered by a stream of its reply, from start to finish', async () => {
    const { session, guest } = await converse(stack);
    const question = newQuestion();
    const stream = await send(guest, session.id, question);

    expect(await stream.end).toBe('done');
    expect(stream.response.headers.get('x-vercel-ai-ui-message-stream')).toBe('v1');
    expect(stream.types).toEqual([
      'start',
      'start-step',
      'text-start',
      'text-delta',
      'text-end',
      'finish-step',
      'finish',
    ]);
    expect(stream.text).toBe(answerTo(question));
    const [start] = stream.of('start');
    const reply = (await guest.get(`/v1/replies/${start.messageId}`)).body;
    expect(stream.response.headers.get('x-resumable-stream-id')).toBe(reply.id);
    expect(stream.of('finish')).toMatchObject([
      {
        finishReason: 'stop',
        messageMetadata: { replyId: reply.id, status: 'completed', usage: reply.usage },
      },
    ]);
    expect(stream.of('data-reply').at(0)).toMatchObject({ id: reply.id, data: { status: 'queued' } });
    expect(stream.of('data-reply').at(-1)).toMatchObject({ data: { status: 'completed', attempt: 1 } });
    expect(await history(guest, session.id)).toEqual([
      ['user', question],
      ['assistant', answerTo(question)],
    ]);
  });

  it('is stored once under its own id, however often it is sent, and each stream tells the same', async () => {
    const { session, guest } = await converse(stack, 'pace:10');
    const question = newQuestion();
    const body = { messages: [userMessage(question)], trigger: 'submit-message' };
    const streams = await Promise.all([1, 2, 3].map(() => chat(guest, session.id, body)));
    expect(await Promise.all(streams.map(({ end }) => end))).toEqual(['done', 'done', 'done']);
    const late = await chat(guest, session.id, body);
    expect(await late.end).toBe('done');
    for (const { text } of [...streams, late]) expect(text).toBe(answerTo(question));
    expect(callsAbout(provider, question)).toHaveLength(1);
    const messages = await guest.messages(session.id);
    expect(messages.map(({ clientMessageId }) => clientMessageId)).toEqual([body.messages[0]!.id, null]);
    expect((await guest.get(`/v1/sessions/${session.id}/chat`)).body.map(({ id }: Json) => id)).toEqual([
      body.messages[0]!.id,
      messages[1]!.replyId,
    ]);
  });

  it('is the last of the user’s in the history, or alone, among fields that nobody knows', async () => {
    const { session, guest } = await converse(stack);
    const [first, second] = [newQuestion(), newQuestion()];
    const answer = {
      id: 'a',
      role: 'assistant',
      parts: [{ type: 'text', text: 'x' }, { type: 'step-start' }],
    };
    const parts = [
      { type: 'text', text: first.slice(0, 3) },
      { type: 'text', text: first.slice(3), state: 'done' },
    ];
    const all = {
      messages: [userMessage('Before'), answer, { ...userMessage(''), parts }],
      tools: {},
      config: [1],
    };
    expect(await (await chat(guest, session.id, all)).end).toBe('done');
    expect(await (await chat(guest, session.id, { message: userMessage(second), system: null })).end).toBe(
      'done',
    );
    expect((await history(guest, session.id)).filter(([role]) => role === 'user')).toEqual([
      ['user', first],
      ['user', second],
    ]);
  });

  it('may come with a long history, up to a bound', async () => {
    const { session, guest } = await converse(stack);
    const old = Array.from({ length: 90 }, () => userMessage('x'.repeat(8_000)));
    const long = await chat(guest, session.id, { messages: [...old, userMessage(newQuestion())] });
    expect(await long.end).toBe('done');
    const tooLong = await guest.post(`/v1/sessions/${session.id}/chat`, { messages: [...old, ...old] });
    expect([tooLong.status, tooLong.headers.get('x-error-code')]).toEqual([413, 'payload_too_large']);
    const tooMany = await guest.post(`/v1/sessions/${session.id}/chat`, {
      messages: Array.from({ length: 1_000 }, () => userMessage('x')),
    });
    expect([tooMany.status, tooMany.headers.get('x-error-code')]).toEqual([400, 'invalid_request']);
  });

  const refused: [string, object, number, string][] = [
    ['no message', {}, 400, 'invalid_request'],
    ['no user’s message', { messages: [{ id: 'a', role: 'assistant', parts: [] }] }, 400, 'invalid_request'],
    ['messages that are none', { messages: 'Hi' }, 400, 'invalid_request'],
    ['a blank', { messages: [userMessage(' \n')] }, 400, 'invalid_request'],
    ['an id that no header could hold', { messages: [userMessage('Hi', 'ä')] }, 400, 'invalid_request'],
    [
      'no id',
      { messages: [{ role: 'user', parts: [{ type: 'text', text: 'Hi' }] }] },
      400,
      'invalid_request',
    ],
    ['a text too long', { messages: [userMessage('x'.repeat(8_001))] }, 400, 'invalid_request'],
    [
      'a file',
      {
        messages: [
          { ...userMessage('Hi'), parts: [{ type: 'file', url: 'data:,x', mediaType: 'text/plain' }] },
        ],
      },
      400,
      'invalid_request',
    ],
    ['another trigger', { trigger: 'resume-stream', messages: [userMessage('Hi')] }, 400, 'invalid_request'],
    ['an edit', { messageId: 'm', messages: [userMessage('Hi')] }, 409, 'message_not_editable'],
    [
      'an answer that is not there',
      { trigger: 'regenerate-message', messageId: 'm' },
      409,
      'reply_not_retryable',
    ],
  ];
  it.each(refused)('is refused with %s, in a sentence', async (_, body, status, code) => {
    const { session, guest } = await converse(stack);
    const answer = await guest.post(`/v1/sessions/${session.id}/chat`, body);
    expect([answer.status, answer.headers.get('x-error-code')]).toEqual([status, code]);
    expect(answer.headers.get('content-type')).toMatch(/^text\/plain/);
    expect(answer.body).toMatch(/^[A-Z].*\.$/);
    expect(await guest.messages(session.id)).toEqual([]);
  });

  it.each(['nonsense', '%00', '01a203eb-82fd-76a1-a5fa-4018ce01bf49'])(
    'is 404 in the session %s',
    async (id) => {
      const { guest } = await converse(stack);
      for (const answer of [
        await guest.post(`/v1/sessions/${id}/chat`, { messages: [userMessage('Hi')] }),
        await guest.get(`/v1/sessions/${id}/chat/x/stream`),
      ]) {
        expect([answer.status, answer.headers.get('x-error-code')]).toEqual([404, 'not_found']);
      }
    },
  );

  it('is refused with a parameter or a media type that the route does not know', async () => {
    const { session, guest } = await converse(stack);
    const path = `/v1/sessions/${session.id}/chat`;
    const body = { messages: [userMessage('Hi')] };
    for (const [answer, status, code] of [
      [await guest.post(`${path}?limit=1`, body), 400, 'invalid_request'],
      [await guest.get(`${path}/x/stream?limit=1`), 400, 'invalid_request'],
      [await guest.post(path, body, { 'content-type': 'text/plain' }), 415, 'unsupported_media_type'],
    ] as const) {
      expect([answer.status, answer.headers.get('x-error-code')]).toEqual([status, code]);
    }
    expect(await guest.messages(session.id)).toEqual([]);
  });

  it('is refused to strangers and others, in a sentence, readable by any page that may ask', async () => {
    const { session } = await converse(stack);
    const other = await converse(stack);
    const path = `/v1/sessions/${session.id}/chat`;
    const strange = await stack.client().request('POST', path, {
      headers: { origin: 'https://shop.example' },
    });
    expect([strange.status, strange.headers.get('x-error-code')]).toEqual([401, 'unauthorized']);
    expect(strange.headers.get('access-control-expose-headers')).toMatch(/x-error-code/i);
    for (const answer of [
      await other.guest.post(path, { messages: [userMessage('Hi')] }),
      await other.guest.get(`${path}/x/stream`),
      await stack.owner('user_other').get(`${path}/x/stream`),
    ]) {
      expect([answer.status, answer.headers.get('x-error-code')]).toEqual([404, 'not_found']);
    }
    expect((await other.guest.post(`${path}/stop`)).status).toBe(404);
    expect((await other.guest.get(path)).status).toBe(404);
  });
});

describe('going on with an answer', () => {
  it('tells it from its start, at another api, and is 204 where there is none', async () => {
    const { session, guest } = await converse(stack, 'held');
    const question = newQuestion();
    const sent = await send(guest, session.id, question);
    await waitFor('text', () => sent.text.length > 10);
    sent.leave();
    const elsewhere = guest.at(stack.apis[1]!.url);
    const resumed = await resume(elsewhere, session.id);
    await waitFor('text', () => resumed.text.length > 10);
    (await provider.callAbout(question)).release();

    expect(await resumed.end).toBe('done');
    expect(resumed.text).toBe(answerTo(question));
    expect(resumed.of('start')[0].messageId).toBe(resumed.response.headers.get('x-resumable-stream-id'));
    expect(callsAbout(provider, question)).toHaveLength(1);
    // Who loaded the history before it ended, and asks for the stream after that, misses nothing.
    const again = await resume(guest, session.id);
    expect(await again.end).toBe('done');
    expect(again.text).toBe(answerTo(question));
    await stack.database.query(
      `update replies set finished_at = now() - interval '11 s' where chat_session_id = $1`,
      [session.id],
    );
    expect((await resume(guest, session.id)).response.status).toBe(204);
    const { status } = await guest.request('HEAD', `/v1/sessions/${session.id}/chat/x/stream`);
    expect(status).toBe(204);
  });

  it.each(['', '?protocol=7'])('never puts a second attempt behind the first (%s)', async (query) => {
    const { session, guest } = await converse(stack, 'trunc-held');
    const question = newQuestion();
    const body = { messages: [userMessage(question)], ...(query !== '' && { protocol: 7 }) };
    const stream = await chat(guest, session.id, body);
    await waitFor('text', () => stream.text.length > 0);
    (await provider.callAbout(question)).release();

    expect(await stream.end).toBe('done');
    const replyId = stream.of('start')[0].messageId;
    await guest.finalReply(replyId);
    if (query === '') {
      expect(stream.types.at(-1)).toBe('error');
      expect(stream.of('error')[0].errorText).toMatch(/being made again/);
      expect(answerTo(question).startsWith(stream.text)).toBe(true);
      const resumed = await resume(guest, session.id);
      expect(await resumed.end).toBe('done');
      expect(resumed.text).toBe(answerTo(question));
      expect(resumed.of('text-start')).toHaveLength(1);
    } else {
      expect(stream.types).toContain('reset-step');
      expect(stream.types.at(-1)).toBe('finish');
      expect(stream.text).toBe(answerTo(question));
      expect(new Set(stream.of('text-start').map(({ id }) => id)).size).toBe(2);
      expect(stream.of('data-reply').map(({ data }) => data.delay?.reason)).toContain('provider_unavailable');
    }
    expect(await history(guest, session.id)).toEqual([
      ['user', question],
      ['assistant', answerTo(question)],
    ]);
  });

  it('is broken off, not ended, where its api stops', async () => {
    const { session, guest } = await converse(stack, 'held');
    const leaving = await stack.addApi();
    const question = newQuestion();
    const stream = await send(guest.at(leaving.url), session.id, question);
    await waitFor('text', () => stream.text.length > 10);
    stack.apis.splice(stack.apis.indexOf(leaving), 1);
    await leaving.app.close();
    expect(await stream.end).toBe('cut');
    (await provider.callAbout(question)).release();
    const resumed = await resume(guest, session.id);
    expect(await resumed.end).toBe('done');
    expect(resumed.text).toBe(answerTo(question));
  });

  it('ends in an error where the reply fails or the session is deleted', async () => {
    const failing = await converse(stack, 'status:401');
    const failed = await send(failing.guest, failing.session.id, newQuestion());
    expect(await failed.end).toBe('done');
    const { error } = (await failing.guest.get(`/v1/replies/${failed.of('start')[0].messageId}`)).body;
    expect(failed.of('error')).toEqual([{ type: 'error', errorText: error.detail }]);

    const { session, guest, owner } = await converse(stack, 'held');
    const deleted = await send(guest, session.id, newQuestion());
    await waitFor('text', () => deleted.text.length > 10);
    await owner.delete(`/v1/sessions/${session.id}`);
    expect(await deleted.end).toBe('done');
    expect(deleted.of('error')[0].errorText).toMatch(/deleted/);
  });
});

describe('stopping', () => {
  it('stops the model, and every stream of the answer ends with what was shown', async () => {
    const { session, guest } = await converse(stack, 'held');
    const question = newQuestion();
    const sent = await send(guest, session.id, question);
    const other = await resume(guest.at(stack.apis[1]!.url), session.id);
    await waitFor('text', () => sent.text.length > 10 && other.text.length > 10);

    expect((await guest.post(`/v1/sessions/${session.id}/chat/stop`)).status).toBe(204);

    expect(await Promise.all([sent.end, other.end])).toEqual(['done', 'done']);
    for (const stream of [sent, other]) {
      expect(stream.chunks.at(-1)).toEqual({ type: 'abort', reason: 'cancelled' });
      expect(stream.of('text-end')).toHaveLength(1);
    }
    expect(await (await provider.callAbout(question)).ended).toBe('client');
    expect(await history(guest, session.id)).toEqual([
      ['user', question],
      ['assistant', sent.text],
    ]);
    expect((await guest.post(`/v1/sessions/${session.id}/chat/stop`)).status).toBe(204);
  });

  it('stops the answer that is named, and no other', async () => {
    const { session, guest } = await converse(stack, 'held');
    const first = await ask(await converse(stack));
    const question = newQuestion();
    const sent = await send(guest, session.id, question);
    await waitFor('text', () => sent.text.length > 10);
    const stop = (messageId: unknown) => guest.post(`/v1/sessions/${session.id}/chat/stop`, { messageId });
    expect((await stop(first.id)).status).toBe(204);
    expect((await stop('nonsense')).status).toBe(400);
    await sleep(100);
    expect(sent.types).not.toContain('abort');
    expect((await stop(sent.of('start')[0].messageId)).status).toBe(204);
    expect(await sent.end).toBe('done');
    expect(sent.types).toContain('abort');
  });
});

describe('asking for an answer anew', () => {
  const regenerate = (guest: ApiClient, id: string, body: object) =>
    chat(guest, id, { trigger: 'regenerate-message', ...body });

  it('makes a new one, and the old one is in the history no more', async () => {
    const { session, guest } = await converse(stack);
    const question = newQuestion();
    const message = userMessage(question);
    const first = await chat(guest, session.id, { messages: [message] });
    await first.end;
    const messageId = first.of('start')[0].messageId;

    const second = await regenerate(guest, session.id, { messages: [message], messageId });

    expect(await second.end).toBe('done');
    expect(second.of('start')[0].messageId).not.toBe(messageId);
    expect(second.text).toBe(answerTo(question));
    expect(await history(guest, session.id)).toEqual([
      ['user', question],
      ['assistant', answerTo(question)],
    ]);
    expect(callsAbout(provider, question)).toHaveLength(2);
    expect(await guest.messages(session.id)).toHaveLength(3);
  });

  it('streams the one that is being made, however many ask, and leaves the old out of the history meanwhile', async () => {
    const { session, guest, owner, chatbotId } = await converse(stack);
    const question = newQuestion();
    const message = userMessage(question);
    const first = await chat(guest, session.id, { messages: [message] });
    await first.end;
    await owner.patch(`/v1/chatbots/${chatbotId}`, { model: 'pace:30' });
    const messageId = first.of('start')[0].messageId;
    const streams = await Promise.all(
      [1, 2, 3, 4].map(() => regenerate(guest, session.id, { messages: [message], messageId })),
    );
    await waitFor('text', () => streams[0]!.text.length > 3);
    expect(await history(guest, session.id)).toEqual([['user', question]]);
    expect(await Promise.all(streams.map(({ end }) => end))).toEqual(Array(4).fill('done'));
    expect(new Set(streams.map((stream) => stream.of('start')[0].messageId)).size).toBe(1);
    for (const { text } of streams) expect(text).toBe(answerTo(question));
    expect(callsAbout(provider, question)).toHaveLength(2);
  });

  it('sends a message that never arrived, and refuses what is not the latest', async () => {
    const { session, guest } = await converse(stack);
    const [first, second] = [userMessage(newQuestion()), userMessage(newQuestion())];
    const posted = await regenerate(guest, session.id, { messages: [first] });
    expect(await posted.end).toBe('done');
    await (
      await chat(guest, session.id, { messages: [first, second] })
    ).end;
    const answer = await guest.post(`/v1/sessions/${session.id}/chat`, {
      trigger: 'regenerate-message',
      messages: [first],
    });
    expect([answer.status, answer.headers.get('x-error-code')]).toEqual([409, 'reply_not_retryable']);
  });
});

describe('the history', () => {
  it('begins with the greeting, under its own id, and knows messages that came without one', async () => {
    const owner = stack.owner();
    const chatbot = await owner.createChatbot({ name: 'Bakery', model: 'ok', greeting: 'Hello!' });
    const { session, guest, messages } = await stack.client().openSession(chatbot.id);
    const question = newQuestion();
    const { message, reply } = await guest.postMessage(session.id, question);
    await guest.finalReply(reply.id);
    const { body } = await guest.get(`/v1/sessions/${session.id}/chat`);
    expect(body.map(({ id, role }: Json) => [id, role])).toEqual([
      [messages[0].id, 'assistant'],
      [message.id, 'user'],
      [reply.id, 'assistant'],
    ]);
    expect(body[2].metadata).toMatchObject({ replyId: reply.id, status: 'completed' });
    // Such a message is known by our id of it.
    const again = await send(guest, session.id, question, { messages: [userMessage(question, message.id)] });
    expect(await again.end).toBe('done');
    expect(again.of('start')[0].messageId).toBe(reply.id);
    const last = (await guest.get(`/v1/sessions/${session.id}/chat?limit=1`)).body;
    expect(last.map(({ id }: Json) => id)).toEqual([reply.id]);
    for (const limit of ['0', '201', 'x', '']) {
      expect((await guest.get(`/v1/sessions/${session.id}/chat?limit=${limit}`)).status).toBe(400);
    }
  });
});
