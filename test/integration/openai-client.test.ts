import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { LLMock } from '@copilotkit/aimock';
import { type LlmChunk, LlmError, LlmErrorCode } from '../../src/llm/llm-client.js';
import { OpenAiClient, type OpenAiClientOptions } from '../../src/llm/openai-client.js';
import { answerTo, PROVIDER_MODEL, type RawProvider, startRawProvider } from '../support/raw-provider.js';

const LIMITS = {
  model: 'ok',
  connectTimeoutMs: 2_000,
  firstTokenTimeoutMs: 5_000,
  thinkingTimeoutMs: 10_000,
  idleTimeoutMs: 5_000,
  totalTimeoutMs: 10_000,
};

const clients: OpenAiClient[] = [];
let questions = 0;

let provider: RawProvider;
beforeAll(async () => {
  provider = await startRawProvider();
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await provider.close();
});

function clientWith(options: Partial<OpenAiClientOptions> = {}): OpenAiClient {
  const client = new OpenAiClient({ ...LIMITS, baseUrl: provider.baseUrl, ...options });
  clients.push(client);
  return client;
}

function ask(
  client: OpenAiClient,
  {
    model = null,
    signal = new AbortController().signal,
  }: { model?: string | null; signal?: AbortSignal } = {},
) {
  const question = `Question ${++questions}?`;
  const stream = client.stream({
    model,
    turns: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: question },
    ],
    characteristics: [],
    signal,
  });
  return { question, stream };
}

interface Outcome {
  text: string;
  chunks: LlmChunk[];
  finish: LlmChunk | undefined;
  usage: LlmChunk | undefined;
  error: unknown;
}

/** Reads a stream to its end, whatever that is. */
async function read(stream: AsyncIterable<LlmChunk>): Promise<Outcome> {
  const chunks: LlmChunk[] = [];
  let error: unknown;
  try {
    for await (const chunk of stream) chunks.push(chunk);
  } catch (thrown) {
    error = thrown;
  }
  return {
    text: chunks.map((chunk) => (chunk.type === 'text' ? chunk.text : '')).join(''),
    chunks,
    finish: chunks.find(({ type }) => type === 'finish'),
    usage: chunks.find(({ type }) => type === 'usage'),
    error,
  };
}

const asked = async (model: string, options: Partial<OpenAiClientOptions> = {}) => {
  const { question, stream } = ask(clientWith(options), { model });
  const outcome = await read(stream);
  const calls = provider.calls.filter((call) => call.question === question);
  return { ...outcome, question, calls };
};

function failure(code: LlmErrorCode, isRetryable: boolean, retryAfterMs?: number) {
  return expect.objectContaining({
    name: 'LlmError',
    code,
    options: expect.objectContaining({
      isRetryable,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    }),
  });
}

describe('An answer', () => {
  it('is streamed as text, then the finish, then the usage', async () => {
    const { text, chunks, question } = await asked('ok');

    expect(text).toBe(answerTo(question));
    expect(chunks.filter(({ type }) => type === 'text').length).toBeGreaterThan(9);
    expect(chunks.slice(-2)).toEqual([
      { type: 'finish', reason: 'stop', isRefusal: false, model: PROVIDER_MODEL },
      { type: 'usage', inputTokens: 7, outputTokens: 11 },
    ]);
  });

  it('comes from the configured model where the request names none', async () => {
    const client = clientWith({ model: 'length' });
    const { stream } = ask(client);

    expect((await read(stream)).finish).toEqual({
      type: 'finish',
      reason: 'length',
      isRefusal: false,
      model: PROVIDER_MODEL,
    });
    expect(client.modelFor({ model: null })).toBe('length');
    expect(client.modelFor({ model: 'other' })).toBe('other');
  });

  it('is byte-exact when every byte arrives on its own', async () => {
    const { text, question, error } = await asked('bytes');

    expect(error).toBeUndefined();
    expect(text).toBe(answerTo(question));
  });

  it('is well-formed, with split surrogate pairs joined and without NUL', async () => {
    const { chunks, text } = await asked('surrogates');

    expect(text).toBe('a😀b\ufffdc\ufffd');
    expect(chunks.every((chunk) => chunk.type !== 'text' || chunk.text.isWellFormed())).toBe(true);
    expect(chunks.at(-2)).toEqual({
      type: 'finish',
      reason: 'stop',
      isRefusal: false,
      model: PROVIDER_MODEL,
    });
  });

  it.each([
    ['length', 'length', false],
    ['filter', 'content_filter', false],
    ['refusal', 'stop', true],
    ['tools', 'stop', false],
    ['blank', 'stop', false],
  ])('of the kind "%s" finishes with "%s"', async (model, reason, isRefusal) => {
    const { finish, error } = await asked(model);

    expect(error).toBeUndefined();
    expect(finish).toEqual({ type: 'finish', reason, isRefusal, model: PROVIDER_MODEL });
  });

  it('does not show the text of a refusal', async () => {
    expect((await asked('refusal')).text).toBe('');
  });

  it('survives chunks without choices, without delta and of null', async () => {
    const { text, question, error } = await asked('odd');

    expect(error).toBeUndefined();
    expect(text).toBe(answerTo(question));
  });

  it('needs no usage', async () => {
    const { text, question, usage, error } = await asked('no-usage');

    expect([text, usage, error]).toEqual([answerTo(question), undefined, undefined]);
  });

  it('is whole once it is finished, also when the provider never ends the stream', async () => {
    const { text, question, finish, error } = await asked('no-done', { idleTimeoutMs: 100 });

    expect(error).toBeUndefined();
    expect(finish).toBeDefined();
    expect(text).toBe(answerTo(question));
  });

  it('is asked for once more without stream_options where a server refuses them, and never with them again', async () => {
    const client = clientWith();
    const first = ask(client, { model: 'strict' });
    const second = ask(client, { model: 'strict' });

    expect((await read(first.stream)).text).toBe(answerTo(first.question));
    expect((await read(second.stream)).text).toBe(answerTo(second.question));
    expect(provider.calls.filter(({ question }) => question === first.question)).toHaveLength(2);
    expect(provider.calls.filter(({ question }) => question === second.question)).toHaveLength(1);
  });
});

describe('A stream without a finish', () => {
  it.each(['trunc-clean', 'http10', 'empty', 'no-finish'])('ends so, without an error: %s', async (model) => {
    const { finish, error } = await asked(model);

    expect([finish, error]).toEqual([undefined, undefined]);
  });
});

describe('A request', () => {
  it('carries the key, the model and the turns, and nothing found in the environment', async () => {
    const variables = {
      OPENAI_API_KEY: 'sk-from-the-environment',
      OPENAI_BASE_URL: 'http://127.0.0.1:1/v1',
      OPENAI_ORG_ID: 'org-from-the-environment',
      OPENAI_CUSTOM_HEADERS: 'x-custom: from-the-environment',
    };
    Object.assign(process.env, variables);
    try {
      const { calls, question } = await asked('ok', { apiKey: 'sk-mine' });
      const keyless = await asked('ok');

      expect(calls[0]!.body).toEqual({
        model: 'ok',
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: question },
        ],
        stream: true,
        stream_options: { include_usage: true },
      });
      expect(calls[0]!.headers.authorization).toBe('Bearer sk-mine');
      expect(keyless.calls[0]!.headers).not.toHaveProperty('authorization');
      expect(JSON.stringify([calls[0]!.headers, keyless.calls[0]!.headers])).not.toContain(
        'from-the-environment',
      );
    } finally {
      for (const name of Object.keys(variables)) delete process.env[name];
    }
  });

  it('never follows a redirect', async () => {
    const { error, calls } = await asked('redirect', { apiKey: 'sk-mine' });

    expect(error).toEqual(failure(LlmErrorCode.ProviderRejected, false));
    expect(calls).toHaveLength(1);
  });

  it('is sent once, whatever fails', async () => {
    const { calls } = await asked('status:500');

    expect(calls).toHaveLength(1);
  });
});

describe('A failure', () => {
  const { ProviderUnavailable, ProviderTimeout, ProviderRateLimited, ProviderRejected, ContextTooLong } =
    LlmErrorCode;

  it.each([
    ['rst', ProviderUnavailable, true],
    ['rst-before', ProviderUnavailable, true],
    ['bad-json', ProviderUnavailable, true],
    ['err-mid', ProviderUnavailable, true],
    ['err-mid:rate_limit_exceeded', ProviderRateLimited, true],
    ['err-mid:insufficient_quota', ProviderRejected, false],
    ['html', ProviderUnavailable, true],
    ['json', ProviderUnavailable, true],
    ['429', ProviderRateLimited, true],
    ['quota', ProviderRejected, false],
    ['ctx', ContextTooLong, false],
    ['status:401', ProviderRejected, false],
    ['status:408', ProviderTimeout, true],
    ['status:503', ProviderUnavailable, true],
    ['status:529', ProviderUnavailable, true],
  ] as const)('of the kind "%s" is %s, retryable: %s', async (model, code, isRetryable) => {
    const { error, finish } = await asked(model);

    expect(error).toEqual(failure(code, isRetryable));
    expect(finish).toBeUndefined();
  });

  it('for pacing says how long the provider wants to be left alone', async () => {
    const { error } = await asked('429:120');

    expect(error).toEqual(failure(ProviderRateLimited, true, 120_000));
  });

  it('comes after the text that was already received', async () => {
    const { text, question, error } = await asked('err-mid');

    expect(error).toBeInstanceOf(LlmError);
    expect(text).toBe(answerTo(question).split(' ').slice(0, 9).join(' '));
  });

  it('to connect is retryable, when nobody listens and when the name does not exist', async () => {
    const refused = await asked('ok', { baseUrl: 'http://127.0.0.1:1/v1' });
    const unknown = await asked('ok', { baseUrl: 'http://no-such-host.invalid/v1' });

    expect(refused.error).toEqual(failure(ProviderUnavailable, true));
    expect(unknown.error).toEqual(failure(ProviderUnavailable, true));
  });

  it('to answer the TLS handshake is a timeout', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    try {
      const { port } = silent.address() as AddressInfo;
      const { error } = await asked('ok', { baseUrl: `https://127.0.0.1:${port}/v1`, connectTimeoutMs: 200 });

      expect(error).toEqual(failure(ProviderTimeout, true));
    } finally {
      silent.close();
    }
  });
});

describe('A watchdog', () => {
  it.each([
    ['no headers', 'no-headers', { firstTokenTimeoutMs: 200 }, 'No first token within 200 ms'],
    ['headers and no text', 'stall-before', { firstTokenTimeoutMs: 200 }, 'No first token within 200 ms'],
    ['empty deltas for ever', 'idle', { firstTokenTimeoutMs: 200 }, 'No first token within 200 ms'],
    [
      'an error whose body never comes',
      'stall-error',
      { firstTokenTimeoutMs: 200 },
      'No first token within 200 ms',
    ],
    ['silence after nine words', 'stall-mid', { idleTimeoutMs: 200 }, 'No next token within 200 ms'],
    ['a word now and then', 'pace:50', { totalTimeoutMs: 300 }, 'No complete answer within 300 ms'],
  ])('ends a call with %s, and the connection', async (_, model, limits, message) => {
    const { error, calls } = await asked(model, limits);

    expect(error).toEqual(failure(LlmErrorCode.ProviderTimeout, true));
    expect(error).toHaveProperty('message', message);
    expect(await calls[0]!.ended).toBe('client');
  });

  it('does not take a slow consumer for a silent provider', async () => {
    const { question, stream } = ask(clientWith({ idleTimeoutMs: 500 }), { model: 'ok' });
    let text = '';
    for await (const chunk of stream) {
      if (text === '') await new Promise((resolve) => setTimeout(resolve, 750));
      if (chunk.type === 'text') text += chunk.text;
    }

    expect(text).toBe(answerTo(question));
  });
});

describe('Aborting', () => {
  it.each(['no-headers', 'stall-before', 'stall-mid', 'pace:50', 'endless', 'stall-error'])(
    'closes the connection of a call at once and throws the reason: %s',
    async (model) => {
      const controller = new AbortController();
      const reason = new Error('The guest cancelled.');
      const { question, stream } = ask(clientWith(), { model, signal: controller.signal });
      const outcome = read(stream);
      const call = await provider.callAbout(question);

      controller.abort(reason);

      expect(await call.ended).toBe('client');
      expect((await outcome).error).toBe(reason);
      expect((await outcome).finish).toBeUndefined();
    },
  );

  it('before the call sends nothing', async () => {
    const reason = new Error('too late');
    const { question, stream } = ask(clientWith(), { signal: AbortSignal.abort(reason) });

    expect((await read(stream)).error).toBe(reason);
    expect(provider.calls.some((call) => call.question === question)).toBe(false);
  });

  it('between two words throws the reason at the next one', async () => {
    const controller = new AbortController();
    const { stream } = ask(clientWith(), { model: 'pace:20', signal: controller.signal });
    const words: LlmChunk[] = [];
    const reading = (async () => {
      for await (const chunk of stream) {
        words.push(chunk);
        if (words.length === 3) controller.abort('cancelled');
      }
    })();

    await expect(reading).rejects.toBe('cancelled');
    expect(words).toHaveLength(3);
  });

  it('is not needed by a consumer that stops reading: that closes the connection too', async () => {
    const { question, stream } = ask(clientWith(), { model: 'pace:50' });
    for await (const chunk of stream) if (chunk.type === 'text') break;

    expect(await (await provider.callAbout(question)).ended).toBe('client');
  });

  it('leaves the other calls alone', async () => {
    const client = clientWith();
    const controller = new AbortController();
    const cancelled = ask(client, { model: 'pace:20', signal: controller.signal });
    const other = ask(client, { model: 'pace:20' });
    const outcomes = Promise.all([read(cancelled.stream), read(other.stream)]);
    await Promise.all([provider.callAbout(cancelled.question), provider.callAbout(other.question)]);

    controller.abort();

    const [, { text, finish }] = await outcomes;
    expect(text).toBe(answerTo(other.question));
    expect(finish).toBeDefined();
  });

  it('happens to every call under way when the client is closed', async () => {
    const client = clientWith();
    const { question, stream } = ask(client, { model: 'stall-mid' });
    const outcome = read(stream);
    await provider.callAbout(question);

    await client.close();

    expect((await outcome).error).toEqual(failure(LlmErrorCode.ProviderUnavailable, true));
  });
});

describe('A runaway answer', () => {
  it('of one line without an end is cut with little memory', async () => {
    const before = process.memoryUsage().rss;
    const { error, calls } = await asked('huge-line');

    expect(error).toEqual(failure(LlmErrorCode.ProviderRejected, false));
    expect(await calls[0]!.ended).toBe('client');
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024);
  });

  it('of tokens without an end is read no faster than it is consumed, and ends when the consumer stops', async () => {
    const { question, stream } = ask(clientWith(), { model: 'endless' });
    let chars = 0;
    for await (const chunk of stream) {
      if (chunk.type === 'text') chars += chunk.text.length;
      if (chars > 32_000) break;
    }

    expect(await (await provider.callAbout(question)).ended).toBe('client');
  });
});

describe('Against another implementation of the protocol', () => {
  let mock: LLMock;
  beforeAll(async () => {
    mock = new LLMock({ port: 0, logLevel: 'silent' });
    const content = 'We are open from nine to five, Monday to Friday.';
    mock.onMessage('plain', { content }, { chunkSize: 5 });
    mock.onMessage('paced', { content }, { chunkSize: 5, streamingProfile: { ttft: 50, tps: 50 } });
    mock.onMessage('limited', {
      error: { message: 'Slow down.', type: 'rate_limit_error', code: 'rate_limit_exceeded' },
      status: 429,
      retryAfter: 120,
    });
    mock.onMessage('cut', { content }, { chunkSize: 5, truncateAfterChunks: 3 });
    mock.onMessage('broken', { content }, { chaos: { malformedRate: 1 } });
    mock.onMessage('dropped', { content }, { chaos: { disconnectRate: 1 } });
    await mock.start();
  });
  afterAll(() => mock.stop());

  const askMock = (content: string) =>
    read(
      clientWith({ baseUrl: `${mock.url}/v1`, apiKey: 'mock' }).stream({
        model: 'gpt-5-mini',
        turns: [{ role: 'user', content }],
        characteristics: [],
        signal: new AbortController().signal,
      }),
    );

  it.each(['plain', 'paced'])('an answer is whole, with its usage: %s', async (question) => {
    const { text, finish, usage, error } = await askMock(question);

    expect(error).toBeUndefined();
    expect(text).toBe('We are open from nine to five, Monday to Friday.');
    expect(finish).toEqual({ type: 'finish', reason: 'stop', isRefusal: false, model: expect.any(String) });
    expect(usage).toEqual({
      type: 'usage',
      inputTokens: expect.any(Number),
      outputTokens: expect.any(Number),
    });
  });

  it('a pacing 429 says how long to wait', async () => {
    const { error } = await askMock('limited');

    expect(error).toEqual(failure(LlmErrorCode.ProviderRateLimited, true, 120_000));
  });

  it.each(['cut', 'broken', 'dropped'])('a fault never looks like an answer: %s', async (question) => {
    const { finish, error } = await askMock(question);

    expect(finish).toBeUndefined();
    expect(error).toEqual(failure(LlmErrorCode.ProviderUnavailable, true));
  });
});
