import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ChatTurn, type LlmChunk, LlmError, LlmErrorCode } from '../../src/llm/llm-client.js';
import { OpenAiClient, type OpenAiClientOptions } from '../../src/llm/openai-client.js';

/**
 * What "OpenAI-compatible" servers really send, each as the bytes that it sends. The client is the real one; the server
 * answers with what the test scripts.
 */

type Answer = (response: ServerResponse, body: any, request: IncomingMessage) => unknown;

const LIMITS = {
  model: 'm',
  connectTimeoutMs: 2_000,
  firstTokenTimeoutMs: 5_000,
  thinkingTimeoutMs: 5_000,
  idleTimeoutMs: 5_000,
  totalTimeoutMs: 20_000,
};
const TURNS: ChatTurn[] = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'When do you open?' },
];

let answer: Answer;
let bodies: any[] = [];
let baseUrl: string;
const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    const body = JSON.parse(Buffer.concat(parts).toString());
    bodies.push(body);
    response.setHeader('content-type', 'text/event-stream');
    void Promise.resolve(answer(response, body, request)).catch(() => response.destroy());
  });
});
const clients: OpenAiClient[] = [];
beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function clientWith(options: Partial<OpenAiClientOptions> = {}): OpenAiClient {
  const client = new OpenAiClient({ ...LIMITS, baseUrl, ...options });
  clients.push(client);
  return client;
}

interface Outcome {
  text: string;
  finish: Extract<LlmChunk, { type: 'finish' }> | undefined;
  usage: Extract<LlmChunk, { type: 'usage' }> | undefined;
  error: unknown;
}

async function ask(
  script: Answer,
  {
    turns = TURNS,
    client,
    signal = new AbortController().signal,
    ...options
  }: Partial<OpenAiClientOptions> & { turns?: ChatTurn[]; client?: OpenAiClient; signal?: AbortSignal } = {},
): Promise<Outcome> {
  answer = script;
  bodies = [];
  const chunks: LlmChunk[] = [];
  let error: unknown;
  try {
    const stream = (client ?? clientWith(options)).stream({
      model: null,
      turns,
      characteristics: [],
      signal,
    });
    for await (const chunk of stream) chunks.push(chunk);
  } catch (thrown) {
    error = thrown;
  }
  return {
    text: chunks.map((chunk) => (chunk.type === 'text' ? chunk.text : '')).join(''),
    finish: chunks.find((chunk) => chunk.type === 'finish'),
    usage: chunks.find((chunk) => chunk.type === 'usage'),
    error,
  };
}

const event = (data: unknown): string =>
  `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;
const DONE = event('[DONE]');
const chunk = (delta: unknown, finish_reason: unknown = null, more: object = {}): string =>
  event({
    id: 'c',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'm-1',
    choices: [{ index: 0, delta, finish_reason }],
    ...more,
  });
const said = (content: unknown, finishReason: unknown = null): string => chunk({ content }, finishReason);
const stop = (more: object = {}): string => chunk({}, 'stop', more);
const sends =
  (...pieces: string[]): Answer =>
  (response) =>
    response.end(pieces.join(''));

const WHOLE = 'One, two, three.';
const COUNTING = [said('One, '), said('two, '), said('three.')];
const brokenOff = expect.objectContaining({
  code: LlmErrorCode.ProviderUnavailable,
  options: expect.objectContaining({ isRetryable: true }),
});

describe('What a provider says beside the text never costs the text:', () => {
  it.each([
    ['absent', {}],
    ['null', { usage: null }],
    ['fractional', { usage: { prompt_tokens: 7.5, completion_tokens: 11.25 } }],
    ['negative', { usage: { prompt_tokens: -1, completion_tokens: -2 } }],
    ['beyond int4', { usage: { prompt_tokens: 2 ** 31, completion_tokens: 1e15 } }],
    ['strings', { usage: { prompt_tokens: '7', completion_tokens: 'eleven' } }],
    ['lists, objects, booleans', { usage: { prompt_tokens: [7], completion_tokens: { n: 11 } } }],
    ['no object', { usage: 'none' }],
    ['a list', { usage: [1, 2] }],
  ])('counts that are %s', async (_, more) => {
    const { text, finish, usage, error } = await ask(sends(...COUNTING, stop(more), DONE));

    expect([text, finish?.reason, error]).toEqual([WHOLE, 'stop', undefined]);
    expect([usage?.inputTokens ?? null, usage?.outputTokens ?? null]).toEqual([null, null]);
  });

  it('one count of two', async () => {
    const usage = { prompt_tokens: 7, completion_tokens: -1 };

    expect((await ask(sends(...COUNTING, stop({ usage }), DONE))).usage).toEqual({
      type: 'usage',
      inputTokens: 7,
      outputTokens: null,
    });
  });

  it('counts of whole numbers that JSON cannot hold', async () => {
    const text = stop().replace(
      '"choices"',
      '"usage":{"prompt_tokens":1e999,"completion_tokens":9e99},"choices"',
    );

    expect((await ask(sends(...COUNTING, text, DONE))).usage).toMatchObject({
      inputTokens: null,
      outputTokens: null,
    });
  });

  it.each([
    ['ids', { id: 7 }],
    ['times', { created: 'yesterday' }],
    ['models', { model: { name: 'm' } }],
    ['long models', { model: 'm'.repeat(5_000) }],
    ['fingerprints', { system_fingerprint: ['x'] }],
    ['tiers', { service_tier: 5, provider: {}, x_groq: [], prompt_filter_results: 'none' }],
    ['errors that say nothing', { error: null }],
    ['empty errors', { error: {} }],
    ['errors of nulls', { error: { code: null, message: '' } }],
    ['objects of another kind', { object: 'whatever' }],
  ])('odd %s', async (_, more) => {
    const pieces = ['One, ', 'two, ', 'three.'].map((content) =>
      chunk({ content, role: 9, audio: {} }, null, more),
    );

    const { text, finish, error } = await ask(sends(...pieces, stop(more), DONE));

    expect([text, finish?.reason, error]).toEqual([WHOLE, 'stop', undefined]);
    expect(finish?.model?.length ?? 0).toBeLessThanOrEqual(255);
  });

  it.each([
    ['logprobs', { logprobs: 'yes' }],
    ['annotations', { annotations: 7 }],
    ['an index that is a string', { index: '0' }],
    ['no index', { index: undefined }],
    ['content filter results', { content_filter_results: [null], content_filter_offsets: 'x' }],
  ])('odd choices: %s', async (_, more) => {
    const pieces = ['One, ', 'two, ', 'three.'].map((content) =>
      event({ choices: [{ index: 0, delta: { content }, finish_reason: null, ...more }] }),
    );

    expect(await ask(sends(...pieces, stop(), DONE))).toMatchObject({ text: WHOLE, error: undefined });
  });

  it('other choices than the one that was asked for', async () => {
    const other = event({ choices: [{ index: 1, delta: { content: 'Other.' }, finish_reason: 'stop' }] });

    expect(await ask(sends(other, ...COUNTING, other, stop(), DONE))).toMatchObject({
      text: WHOLE,
      finish: { reason: 'stop' },
    });
  });

  it.each(['null', '7', '"text"', '[]', '{}', '{"choices":{}}', '{"choices":[null]}', '{"choices":[7]}'])(
    'chunks that are none: %s',
    async (data) => {
      const { text, finish } = await ask(
        sends(event(data), ...COUNTING, event(data), stop(), event(data), DONE),
      );

      expect([text, finish?.reason]).toEqual([WHOLE, 'stop']);
    },
  );
});

describe('An answer ends when the stream ends, and is whole with a reason that means whole:', () => {
  it.each([
    [
      'a reason with every chunk',
      [said('One, ', 'stop'), said('two, ', 'stop'), said('three.', 'stop'), DONE],
    ],
    ['the same without [DONE]', [said('One, ', 'stop'), said('two, ', 'stop'), said('three.', 'stop')]],
    ['"null" as a word', [said('One, ', 'null'), said('two, ', 'null'), said('three.', 'stop'), DONE]],
    ['empty words', [said('One, ', ''), said('two, ', ''), said('three.', 'stop'), DONE]],
    [
      '"none" and "not_finished"',
      [said('One, ', 'None'), said('two, ', 'not_finished'), said('three.', 'STOP')],
    ],
    ['a reason on the thoughts', [chunk({ reasoning_content: 'Hm.' }, 'stop'), ...COUNTING, stop(), DONE]],
    ['a reason on the thoughts alone', [chunk({ reasoning_content: 'Hm.' }, 'stop'), ...COUNTING, DONE]],
    ['a reason of its own and usage behind', [...COUNTING, stop(), event({ choices: [], usage: {} }), DONE]],
    ['the reason with the last text', [said('One, '), said('two, '), said('three.', 'stop')]],
    ['no [DONE]', [...COUNTING, stop()]],
    ['no empty line at the end', [...COUNTING, stop().trimEnd()]],
    ['an object as reason', [...COUNTING, chunk({}, { type: 'stop', matched: 2 }), DONE]],
    ['an end of turn', [...COUNTING, chunk({}, 'end_turn'), DONE]],
  ])('%s', async (_, pieces) => {
    const { text, finish, error } = await ask(sends(...pieces));

    expect([text, finish?.reason, error]).toEqual([WHOLE, 'stop', undefined]);
  });

  it('two seconds of silence after a whole reason are the end', async () => {
    const { text, finish, error } = await ask((response) => response.write([...COUNTING, stop()].join('')));

    expect([text, finish?.reason, error]).toEqual([WHOLE, 'stop', undefined]);
  });

  it('a reason with every chunk is no end, however slow the next one is', async () => {
    const { text } = await ask(async (response) => {
      for (const piece of ['One, ', 'two, ']) response.write(said(piece, 'stop'));
      await sleep(2_500);
      response.end(said('three.', 'stop') + DONE);
    });

    expect(text).toBe(WHOLE);
  });

  it('a connection that breaks under a reason with every chunk has cut the answer', async () => {
    const { finish, error } = await ask(async (response) => {
      response.write(said('One, ', 'stop') + said('two, ', 'stop'));
      await sleep(20);
      response.socket?.resetAndDestroy();
    });

    expect([finish, error]).toEqual([undefined, brokenOff]);
  });

  it('a connection that breaks behind an end of its own has cut nothing', async () => {
    const { text, finish, error } = await ask(async (response) => {
      response.write([...COUNTING, stop()].join(''));
      await sleep(20);
      response.socket?.resetAndDestroy();
    });

    expect([text, finish?.reason, error]).toEqual([WHOLE, 'stop', undefined]);
  });

  it.each([
    ['length', ['length', 'MAX_TOKENS', 'model_length', 'maxTokens']],
    ['content_filter', ['content_filter', 'SAFETY', 'content_filter: RECITATION', 'sensitive']],
  ])('is cut as "%s"', async (reason, words) => {
    for (const word of words) {
      const { text, finish } = await ask(sends(...COUNTING, chunk({}, word), DONE));
      expect([word, text, finish?.reason]).toEqual([word, WHOLE, reason]);
    }
  });

  it.each([
    'error',
    'abort',
    'insufficient_system_resource',
    'network_error',
    'timeout',
    'OTHER',
    'cancelled',
  ])('a provider that broke off has not answered: %s', async (word) => {
    const { finish, error } = await ask(sends(...COUNTING, chunk({}, word), DONE));

    expect([finish, error]).toEqual([undefined, brokenOff]);
  });

  it('a reason that nobody knows counts as whole where the stream ended properly, and is told', async () => {
    const { text, finish } = await ask(sends(...COUNTING, chunk({}, 'enough_said'), DONE));

    expect([text, finish?.reason, finish?.unknownReason]).toEqual([WHOLE, 'stop', 'enough_said']);
  });

  it('a reason that nobody knows is no end by silence', async () => {
    const { finish, error } = await ask(
      (response) => response.write([...COUNTING, chunk({}, 'enough_said')].join('')),
      { idleTimeoutMs: 2_500 },
    );

    expect(finish).toBeUndefined();
    expect(error).toMatchObject({ code: LlmErrorCode.ProviderTimeout });
  });

  it.each([
    ['nothing at all', COUNTING],
    ['[DONE] without a reason', [...COUNTING, DONE]],
    ['text behind the reason, and a cut', [said('One, ', 'stop'), said('two, ')]],
  ])('is cut with %s', async (_, pieces) => {
    const { finish, error } = await ask(sends(...pieces));

    expect([finish, error]).toEqual([undefined, undefined]);
  });
});

describe('Text comes in several shapes:', () => {
  const document = (message: unknown, more: object = {}) =>
    JSON.stringify({
      object: 'chat.completion',
      choices: [{ index: 0, message, finish_reason: 'stop' }],
      usage: { prompt_tokens: 7, completion_tokens: 5 },
      ...more,
    });

  it.each([
    ['a list of parts', [{ type: 'text', text: 'We open at 7.' }]],
    [
      'several parts',
      [
        { type: 'text', text: 'We open' },
        { type: 'text', text: ' at 7.' },
      ],
    ],
    [
      'parts with thoughts',
      [
        { type: 'thinking', thinking: [{ type: 'text', text: 'Hm.' }] },
        { type: 'text', text: 'We open at 7.' },
      ],
    ],
    [
      'reasoning parts',
      [
        { type: 'reasoning', text: 'Hm.' },
        { type: 'text', text: 'We open at 7.' },
      ],
    ],
    [
      'references',
      [
        { type: 'text', text: 'We open at 7.' },
        { type: 'reference', reference_ids: [1] },
      ],
    ],
    ['output_text', [{ type: 'output_text', text: 'We open at 7.' }]],
    ['a single part', { type: 'text', text: 'We open at 7.' }],
    ['parts of text with a value', [{ type: 'text', text: { value: 'We open at 7.' } }]],
    ['strings in a list', ['We open', ' at 7.']],
    ['odd parts between', [null, 7, {}, { type: 'text' }, { type: 'text', text: 'We open at 7.' }]],
  ])('%s', async (_, content) => {
    expect(await ask(sends(said(content), stop(), DONE))).toMatchObject({
      text: 'We open at 7.',
      error: undefined,
    });
    expect(await ask(sends(document({ content })))).toMatchObject({
      text: 'We open at 7.',
      error: undefined,
    });
  });

  it.each(['application/json', 'application/json; charset=utf-8', 'text/event-stream', 'text/plain', ''])(
    'one JSON document instead of a stream, as %j',
    async (type) => {
      const { text, finish, usage } = await ask((response) => {
        response.setHeader('content-type', type);
        response.end(`\n${document({ role: 'assistant', content: WHOLE, reasoning: 'Hm.' })}\n`);
      });

      expect([text, finish?.reason]).toEqual([WHOLE, 'stop']);
      expect(usage).toMatchObject({ inputTokens: 7, outputTokens: 5 });
    },
  );

  it.each(['application/json', 'text/plain', 'application/octet-stream'])(
    'events declared as %s',
    async (type) => {
      const outcome = await ask((response) => {
        response.setHeader('content-type', type);
        response.end([...COUNTING, stop(), DONE].join(''));
      });

      expect(outcome).toMatchObject({ text: WHOLE, finish: { reason: 'stop' } });
    },
  );

  it('one JSON object a line', async () => {
    const lines = [...COUNTING, stop()].map((piece) => piece.slice('data: '.length).trim());

    expect(await ask(sends(`${lines.join('\n')}\n`))).toMatchObject({
      text: WHOLE,
      finish: { reason: 'stop' },
    });
  });

  it.each([
    ['byte order mark', [`\uFEFF${COUNTING[0]}`, ...COUNTING.slice(1), stop(), DONE]],
    ['CRLF', [...COUNTING, stop(), DONE].map((piece) => piece.replaceAll('\n', '\r\n'))],
    [
      'no space behind the colon',
      [...COUNTING, stop(), DONE].map((piece) => piece.replace('data: ', 'data:')),
    ],
    ['[done] in other letters', [...COUNTING, stop(), event(' [Done] ')]],
    [
      'whole messages as chunks',
      [event({ choices: [{ message: { content: WHOLE }, finish_reason: 'stop' }] }), DONE],
    ],
    ['text beside the delta', [event({ choices: [{ text: WHOLE, finish_reason: 'stop' }] }), DONE]],
    [
      'the whole message once more at the end',
      [...COUNTING, event({ choices: [{ message: { content: WHOLE }, finish_reason: 'stop' }] }), DONE],
    ],
  ])('%s', async (_, pieces) => {
    expect(await ask(sends(...pieces))).toMatchObject({
      text: WHOLE,
      finish: { reason: 'stop' },
      error: undefined,
    });
  });

  it.each([
    ['data: without data', 'data:\n\n'],
    ['data: of a blank', 'data: \n\n'],
    ['an event without data', 'event: ping\n\n'],
    ['both', 'event: ping\ndata:\n\n'],
    ['a comment', ': OPENROUTER PROCESSING\n\n'],
    ['an id', 'id: 7\n\n'],
    ['a retry', 'retry: 3000\n\n'],
    ['lines of no field', 'keep-alive\n\n'],
    ['empty lines', '\n\n\n'],
    ['a named event with data', `event: ping\ndata: {"type":"ping"}\n\n`],
  ])('a heartbeat between chunks: %s', async (_, beat) => {
    const pieces = [...COUNTING, stop(), DONE].flatMap((piece) => [beat, piece, beat]);

    expect(await ask(sends(...pieces))).toMatchObject({
      text: WHOLE,
      finish: { reason: 'stop' },
      error: undefined,
    });
  });

  it.each([
    ['an error document', '{"error":{"message":"Overloaded","code":503}}', brokenOff],
    ['an error event', `event: error\ndata: {"message":"Overloaded"}\n\n`, brokenOff],
    ['an error as a word', event({ error: 'overloaded' }), brokenOff],
    ["vLLM's error", event({ object: 'error', message: 'Out of memory', code: 500 }), brokenOff],
    ['a document of something else', '{"hello":"world"}', brokenOff],
  ])('is told from %s', async (_, body, expected) => {
    expect((await ask(sends(body))).error).toEqual(expected);
  });
});

describe('Thoughts', () => {
  const said7 = { text: 'We open at 7.', error: undefined };

  it('in the text reach nobody', async () => {
    const letters = '<think>\nThey ask for hours.\n</think>\n\nWe open at 7.'
      .split('')
      .map((letter) => said(letter));

    expect(await ask(sends(...letters, stop(), DONE))).toMatchObject({
      ...said7,
      finish: { hasThought: true },
    });
  });

  it('beside the text reach nobody', async () => {
    const outcome = await ask(
      sends(
        chunk({ reasoning_content: 'Hm.', content: '' }),
        chunk({ reasoning: 'Hm.' }),
        said('We open at 7.'),
        stop(),
        DONE,
      ),
    );

    expect(outcome).toMatchObject({ ...said7, finish: { hasThought: true } });
  });

  it('that are all there is leave nothing to show, and say so', async () => {
    const unclosed = await ask(sends(said('<think>Hm.'), stop(), DONE));
    const apart = await ask(sends(chunk({ reasoning_content: 'Hm.' }), stop(), DONE));

    for (const { text, finish } of [unclosed, apart]) expect([text, finish?.hasThought]).toEqual(['', true]);
  });

  it('that begin before the answer are known of the models that are named', async () => {
    const script = sends(said('Hm.\n'), said('</think>\n\nWe open'), said(' at 7.'), stop(), DONE);

    expect(await ask(script, { thinksFirstModels: ['other', 'M'] })).toMatchObject(said7);
    expect((await ask(script)).text).toContain('</think>');
  });

  it.each([
    ['beside the text', chunk({ reasoning_content: 'Hm.' })],
    ['in the text', said('<think>Hm.')],
    ['as parts', said([{ type: 'thinking', thinking: 'Hm.' }])],
  ])('%s are a sign of life, for as long as thinking may take', async (_, thought) => {
    const thinking: Answer = async (response) => {
      for (let i = 0; i < 8 && !response.destroyed; i++) {
        response.write(i === 0 || !thought.includes('<think>') ? thought : said('Hm.'));
        await sleep(100);
      }
      response.end(
        (thought.includes('<think>') ? said('</think>') : '') + said('We open at 7.') + stop() + DONE,
      );
    };

    expect(await ask(thinking, { firstTokenTimeoutMs: 300 })).toMatchObject(said7);
    const { error } = await ask(thinking, { firstTokenTimeoutMs: 300, thinkingTimeoutMs: 400 });
    expect(error).toMatchObject({ message: 'No text after its thoughts within 400 ms' });
  });
});

describe('Turns', () => {
  const conversation: ChatTurn[] = [
    { role: 'system', content: 'Be brief.' },
    { role: 'assistant', content: 'Hello!' },
    { role: 'user', content: 'Hi.' },
    { role: 'user', content: 'Are you there?' },
    { role: 'assistant', content: 'Yes.' },
    { role: 'user', content: 'When do you open?' },
    { role: 'user', content: 'On Sunday, too?' },
  ];
  const rolesOf = (body: any): string[] => body.messages.map(({ role }: ChatTurn) => role);

  it('alternate, begin with the user, and lose nothing of what was said', async () => {
    await ask(sends(...COUNTING, stop(), DONE), { turns: conversation });

    expect(rolesOf(bodies[0])).toEqual(['system', 'user', 'assistant', 'user', 'assistant', 'user']);
    const sent = JSON.stringify(bodies[0]);
    for (const { content } of conversation) expect(sent).toContain(content);
    expect(bodies[0].messages.at(-1).content).toBe('When do you open?\n\nOn Sunday, too?');
  });

  const refusing =
    (status: number, message: string, isRefused: (body: any) => boolean): Answer =>
    (response, body) => {
      if (!isRefused(body)) return response.end([...COUNTING, stop(), DONE].join(''));
      return response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(JSON.stringify({ error: { message } }));
    };
  const hasSystem = (body: any): boolean => rolesOf(body).includes('system');
  const hasOptions = (body: any): boolean => 'stream_options' in body;

  it.each([
    [400, 'System role not supported', hasSystem],
    [400, 'Developer instruction is not enabled for models/gemma-3', hasSystem],
    [422, 'messages.0.role: Input should be "user" or "assistant"', hasSystem],
    [400, "Unsupported value: 'messages[0].role' does not support 'system' with this model.", hasSystem],
    [400, 'Unrecognized request argument supplied: stream_options', hasOptions],
    [
      422,
      '[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]',
      hasOptions,
    ],
    [400, 'stream is not supported by this model', (body: any) => body.stream === true],
  ])(
    'are asked for once more without what a server refuses, and never with it again: %d %s',
    async (status, message, isRefused) => {
      const client = clientWith();
      const script = refusing(status, message, isRefused);

      expect(await ask(script, { client, turns: conversation })).toMatchObject({
        text: WHOLE,
        error: undefined,
      });
      expect(bodies).toHaveLength(2);
      expect(JSON.stringify(bodies[1])).toContain('Be brief.');
      expect(rolesOf(bodies[1]).at(-1)).toBe('user');
      expect(await ask(script, { client, turns: conversation })).toMatchObject({ text: WHOLE });
      expect(bodies).toHaveLength(1);
    },
  );

  it('are asked for without everything that one server refuses, one after the other', async () => {
    const script: Answer = (response, body, request) =>
      hasOptions(body)
        ? refusing(400, 'unknown field stream_options', hasOptions)(response, body, request)
        : refusing(400, 'the system role is not allowed', hasSystem)(response, body, request);

    expect(await ask(script)).toMatchObject({ text: WHOLE });
    expect(bodies).toHaveLength(3);
  });

  it('are refused for good where it is about something else', async () => {
    const { error } = await ask(refusing(400, 'The model does not exist', () => true));

    expect(error).toBeInstanceOf(LlmError);
    expect(bodies).toHaveLength(1);
  });
});

describe('A proxy', () => {
  let proxied: string[] = [];
  const sockets = new Set<ReturnType<typeof connect>>();
  const proxy = createServer((request, response) => {
    proxied.push(`${request.method} ${request.url} ${request.headers['proxy-authorization'] ?? ''}`.trim());
    const onward = httpRequest(
      request.url ?? '',
      { method: request.method, headers: request.headers },
      (inner) => {
        response.writeHead(inner.statusCode ?? 502, inner.headers);
        inner.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  let proxyUrl: string;
  beforeAll(async () => {
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    proxyUrl = `http://user:p%40ss@127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
  });

  it('stands between, with its own credentials', async () => {
    proxied = [];

    expect(await ask(sends(...COUNTING, stop(), DONE), { proxies: { httpProxy: proxyUrl } })).toMatchObject({
      text: WHOLE,
    });
    expect(proxied).toEqual([
      `POST ${baseUrl}/chat/completions Basic ${Buffer.from('user:p@ss').toString('base64')}`,
    ]);
  });

  it('is left out for the hosts that are named, and for servers of the other kind', async () => {
    proxied = [];
    const script = sends(...COUNTING, stop(), DONE);

    await ask(script, { proxies: { httpProxy: proxyUrl, noProxy: 'example.com,127.0.0.1' } });
    await ask(script, { proxies: { httpsProxy: proxyUrl } });
    process.env['HTTP_PROXY'] = proxyUrl;
    await ask(script);
    delete process.env['HTTP_PROXY'];

    expect(proxied).toEqual([]);
  });

  it('passes a cancel on', async () => {
    const cancel = new AbortController();
    const closed = Promise.withResolvers<void>();
    const outcome = ask(
      (response) => {
        response.write(COUNTING[0]);
        response.on('close', () => closed.resolve());
        cancel.abort(new Error('cancelled'));
      },
      { proxies: { httpProxy: proxyUrl }, signal: cancel.signal },
    );

    expect((await outcome).error).toEqual(new Error('cancelled'));
    await closed.promise; // the server's own connection
  });
});
