import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A chat-completions server whose faults a well-behaved HTTP server cannot have. The request's model names
 * what goes wrong, with arguments after colons; see {@link MODES}. What it answers is `answerTo(question)`,
 * where the question is the last user message: a truncated or mixed-up answer shows.
 */
export interface RawProvider {
  /** To be configured as OPENAI_BASE_URL. */
  baseUrl: string;
  /** Every request so far, in the order of arrival. */
  calls: readonly ProviderCall[];
  /** The first call whose question contains this text, once it has arrived. */
  callAbout(text: string): Promise<ProviderCall>;
  close(): Promise<void>;
}

export interface ProviderCall {
  model: string;
  question: string;
  body: { model: string; messages: { role: string; content: string }[]; stream_options?: unknown };
  headers: IncomingMessage['headers'];
  receivedAtMs: number;
  /** Lets a `held` answer come to its end. */
  release(): void;
  /** Who ended it: the provider by completing or cutting its answer, or the client by closing its connection. */
  ended: Promise<'provider' | 'client'>;
}

/** What the server calls the model that answers, whichever was asked for. */
export const PROVIDER_MODEL = 'ok-2026-11-01';

export function answerTo(question: string): string {
  return `Answer to "${question}": one, two, three, four, naïve café, 漢字, 👩‍👩‍👧, 😀😀, nine, ten. The end.`;
}

export const MARKDOWN_ANSWER = `We bake **three kinds** of bread every morning. The *rye* is made with sourdough only, so it keeps for a week.

## What is in it

| Bread | Flour | Weight | Price |
| :-- | :-- | --: | --: |
| Country rye | rye, a little wheat | 1,000 g | 5.80 € |
| Baguette | wheat | 250 g | 1.90 € |

1. Order until **16:00** the day before.
2. Say whether you want it sliced:
   - thin, 8 mm
   - thick, 14 mm
3. Collect it from 7:00 on, see [our map](https://bakery.example/map).

> Rolls without gluten are baked on Wednesdays and Fridays.

Orders are taken by our web shop, too:

\`\`\`js
await fetch('https://bakery.example/orders', { method: 'POST', body: JSON.stringify({ bread: 'rye', pieces: 2 }) });
\`\`\`

Is there \`<b>\` in it? No. <script>alert(1)</script>`;

type Mode = (exchange: Exchange, ...args: string[]) => Promise<void> | void;

const MODES: Record<string, Mode> = {
  /** A whole answer; the other well-behaved ones follow. */
  ok: (exchange) => exchange.answer(),
  /** `pace:100`: a word each 100 ms. */
  pace: (exchange, ms) => exchange.answer({ paceMs: Number(ms) }),
  /**
   * Nine words, and the rest once the call is released; later calls about the same question are answered at once. `held:2`:
   * the second as well is held.
   */
  held: async (exchange, times = '1') => {
    if (exchange.callsAboutTheSame > Number(times)) return exchange.answer();
    await exchange.words({ count: 9 });
    await exchange.released;
    await exchange.answer({ from: 9 });
  },
  /** `fail:503:2`: the first two calls about a question get 503, the third its answer. */
  fail: (exchange, status, times) =>
    exchange.callsAboutTheSame <= Number(times) ? exchange.fail(Number(status)) : exchange.answer(),
  /** `echo-error:500:1`: the first call fails with a message that quotes all that it was sent, key included. */
  'echo-error': (exchange, status, times) =>
    exchange.callsAboutTheSame <= Number(times ?? Infinity)
      ? exchange.fail(Number(status), { message: exchange.echo() })
      : exchange.answer(),
  /** An answer with everything in it that Markdown has. */
  markdown: (exchange) => {
    exchange.send(chunk({ content: MARKDOWN_ANSWER }));
    exchange.finish();
  },
  /** Refuses `stream_options`, as some servers do. */
  strict: (exchange) =>
    'stream_options' in exchange.call.body
      ? exchange.fail(400, { message: 'Unrecognized request argument supplied: stream_options' })
      : exchange.answer({ hasUsage: false }),
  'no-usage': (exchange) => exchange.answer({ hasUsage: false }),
  length: (exchange) => exchange.answer({ finishReason: 'length' }),
  /** `reason:abort:1`: the first call about a question ends for that reason, the others as they should. */
  reason: (exchange, word, times = 'Infinity') =>
    exchange.answer(exchange.callsAboutTheSame <= Number(times) ? { finishReason: word } : {}),
  /** `thought:1`: the first call only thinks, and says so; the others think first, and then answer. */
  thought: (exchange, times) => {
    exchange.send(chunk({ content: '<think>They ask a question.' }));
    if (exchange.callsAboutTheSame <= Number(times)) return exchange.finish();
    exchange.send(chunk({ content: '</think>' }));
    return exchange.answer();
  },
  /** Counts of tokens that are none. */
  'odd-usage': async (exchange) => {
    await exchange.words();
    exchange.send(chunk({}, 'stop'));
    exchange.send({ choices: [], usage: { prompt_tokens: -7.5, completion_tokens: 1e15 } });
    exchange.response.end('data: [DONE]\n\n');
  },
  filter: (exchange) => exchange.answer({ finishReason: 'content_filter' }),
  refusal: (exchange) => {
    exchange.send(chunk({ refusal: 'I will not.' }));
    exchange.finish();
  },
  tools: (exchange) => {
    exchange.send(
      chunk({ tool_calls: [{ index: 0, id: 'call_1', function: { name: 'f', arguments: '{}' } }] }),
    );
    exchange.finish({ finishReason: 'tool_calls' });
  },
  /** Each byte in an HTTP chunk of its own. */
  bytes: (exchange) => exchange.answer({ isBytewise: true }),
  /** The two halves of a surrogate pair in two events, a lonely half, and a NUL. */
  surrogates: (exchange) => {
    for (const half of ['a', '\ud83d', '\ude00', '\0b', '\ud83d', 'c', '\ud83d']) {
      exchange.send(chunk({ content: half }));
    }
    exchange.finish();
  },
  /** Chunks that mean nothing: no choices, no delta, null; then an answer. */
  odd: (exchange) => {
    exchange.send({ choices: [], prompt_filter_results: [] });
    exchange.send(null);
    exchange.send({ choices: [{ index: 0 }] });
    exchange.send({ choices: [{ index: 0, delta: { content: null }, finish_reason: '' }] });
    return exchange.answer();
  },

  /** Everything but the finish: the connection stays open after it. */
  'no-done': async (exchange) => {
    await exchange.words();
    exchange.send(chunk({}, 'stop'));
  },
  'no-headers': () => {},
  'stall-before': (exchange) => exchange.send(chunk({ role: 'assistant', content: '' })),
  'stall-mid': (exchange) => exchange.words({ count: 9 }),
  /** Empty deltas for ever. */
  idle: async (exchange) => {
    while (exchange.isOpen) {
      exchange.send(chunk({ content: '' }));
      await sleep(20);
    }
  },
  'trunc-clean': async (exchange) => {
    await exchange.words({ count: 9 });
    exchange.response.end();
  },
  /** The first call about a question is cut like that, the second gets its answer. */
  'trunc-once': async (exchange) => {
    if (exchange.callsAboutTheSame > 1) return exchange.answer();
    await exchange.words({ count: 9 });
    exchange.response.end();
  },
  /** The same, cut once the call is released. */
  'trunc-held': async (exchange) => {
    if (exchange.callsAboutTheSame > 1) return exchange.answer();
    await exchange.words({ count: 9 });
    await exchange.released;
    exchange.response.end();
  },
  /** HTTP/1.0, where the end of the connection is the end of the body. */
  http10: (exchange) => {
    exchange.raw(
      `HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${event(chunk({ content: 'half an' }))}`,
    );
    exchange.response.socket?.end();
  },
  rst: async (exchange) => {
    await exchange.words({ count: 9 });
    await sleep(20); // the words are on their way before the connection breaks
    exchange.reset();
  },
  'rst-before': (exchange) => exchange.reset(),
  'bad-json': async (exchange) => {
    await exchange.words({ count: 9 });
    exchange.response.end('data: {"choices":[{"delta":\n\n');
  },
  /** `err-mid:rate_limit_exceeded`: an error event with that code. */
  'err-mid': async (exchange, code = 'server_error') => {
    await exchange.words({ count: 9 });
    exchange.send({ error: { message: 'Something went wrong.', code } });
    exchange.response.end();
  },
  /** An error event that quotes what was asked, after a part of the answer. */
  'err-echo': async (exchange) => {
    await exchange.words({ count: 9 });
    exchange.send({ error: { message: exchange.echo(), code: 'server_error' } });
    exchange.response.end();
  },
  html: (exchange) => exchange.page('text/html', '<html><body>Please log in</body></html>'),
  json: (exchange) => exchange.page('application/json', '{"hello":"world"}'),
  /** `[DONE]` and nothing before it. */
  empty: (exchange) => {
    exchange.response.end('data: [DONE]\n\n');
  },
  /** Empty deltas and a proper finish. */
  blank: (exchange) => exchange.finish(),
  /** Text and `[DONE]`, without a finish reason. */
  'no-finish': async (exchange) => {
    await exchange.words({ count: 9 });
    exchange.response.end('data: [DONE]\n\n');
  },
  /** `429:2`: pacing, with that `Retry-After`. */
  '429': (exchange, ...retryAfter) =>
    exchange.fail(429, { code: 'rate_limit_exceeded' }, { 'retry-after': retryAfter.join(':') || '1' }),
  /** `busy:300`: pacing once, with that `Retry-After`; then an answer. */
  busy: (exchange, retryAfter = '1') =>
    exchange.callsAboutTheSame === 1
      ? exchange.fail(429, { code: 'rate_limit_exceeded' }, { 'retry-after': retryAfter })
      : exchange.answer(),
  quota: (exchange) => exchange.fail(429, { code: 'insufficient_quota' }),
  ctx: (exchange) => exchange.fail(400, { code: 'context_length_exceeded' }),
  /** `ctx-above:4`: as above, but only for more than four turns. */
  'ctx-above': (exchange, turns) =>
    exchange.call.body.messages.length > Number(turns)
      ? exchange.fail(400, { code: 'context_length_exceeded' })
      : exchange.answer(),
  status: (exchange, status) => exchange.fail(Number(status)),
  redirect: (exchange) => {
    exchange.response.writeHead(307, { location: '/elsewhere' }).end();
  },
  /** A status, and then never the body that explains it. */
  'stall-error': (exchange) => {
    exchange.response.writeHead(500, { 'content-type': 'application/json' });
    exchange.response.write('{"error":');
  },
  /** Tokens without end. */
  endless: async (exchange) => {
    while (exchange.isOpen)
      await exchange.write(event(chunk({ content: 'more and more and more ' })).repeat(50));
  },
  /** One line of 300 MB. */
  'huge-line': async (exchange) => {
    const megabyte = 'x'.repeat(1024 * 1024);
    await exchange.write('data: {"choices":[{"delta":{"content":"');
    for (let sent = 0; sent < 300 && exchange.isOpen; sent++) await exchange.write(megabyte);
    exchange.response.end('"}}]}\n\n');
  },
};

interface AnswerOptions {
  /** The first word to say. */
  from?: number;
  paceMs?: number;
  finishReason?: string;
  hasUsage?: boolean;
  isBytewise?: boolean;
}

/** One request, and the ways to answer it. */
class Exchange {
  private isEndedHere = false;
  private readonly closed = new AbortController();

  constructor(
    readonly call: ProviderCall,
    readonly response: ServerResponse,
    /** This call included. */
    readonly callsAboutTheSame: number,
    readonly released: Promise<void>,
  ) {
    response.once('close', () => this.closed.abort());
  }

  get isOpen(): boolean {
    return !this.response.destroyed;
  }

  get endedBy(): 'provider' | 'client' {
    return this.isEndedHere || this.response.writableFinished ? 'provider' : 'client';
  }

  async answer(options: AnswerOptions = {}): Promise<void> {
    await this.words(options);
    if (this.isOpen) this.finish(options);
  }

  /** Some of the answer's words, an event each; all of them where it is not told which. */
  async words({
    from = 0,
    count = Infinity,
    paceMs = 0,
    isBytewise = false,
  }: AnswerOptions & { count?: number } = {}) {
    const words = answerTo(this.call.question).match(/\s*\S+/gu) ?? [];
    for (const word of words.slice(from, from + count)) {
      if (!this.isOpen) return;
      const bytes = Buffer.from(event(chunk({ content: word })));
      for (const piece of isBytewise ? Array.from(bytes, (byte) => Buffer.of(byte)) : [bytes]) {
        this.response.write(piece);
      }
      if (paceMs > 0) await sleep(paceMs);
    }
  }

  finish({ finishReason = 'stop', hasUsage = true }: AnswerOptions = {}): void {
    this.send(chunk({}, finishReason));
    if (hasUsage && 'stream_options' in this.call.body) {
      this.send({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 11, total_tokens: 18 } });
    }
    this.response.end('data: [DONE]\n\n');
  }

  send(data: unknown): void {
    this.response.write(event(data));
  }

  /** Writes no faster than the client reads. */
  async write(text: string): Promise<void> {
    if (this.response.write(text)) return;
    await once(this.response, 'drain', { signal: this.closed.signal }).catch(() => {});
  }

  fail(
    status: number,
    error: { message?: string; code?: string } = {},
    headers: Record<string, string> = {},
  ): void {
    this.response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(JSON.stringify({ error: { message: `Failed with ${status}.`, type: 'error', ...error } }));
  }

  /** What some servers answer to what they do not like: the whole of it. */
  echo(): string {
    const { headers, body } = this.call;
    return `Refused: ${headers.authorization} ${body.messages.map(({ content }) => content).join(' | ')}`;
  }

  page(contentType: string, content: string): void {
    this.response.writeHead(200, { 'content-type': contentType }).end(content);
  }

  /** Past node:http, straight into the connection. */
  raw(text: string): void {
    this.isEndedHere = true;
    this.response.socket?.write(text);
  }

  reset(): void {
    this.isEndedHere = true;
    this.response.socket?.resetAndDestroy();
  }
}

const event = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`;

const chunk = (delta: Record<string, unknown>, finishReason: string | null = null) => ({
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  model: PROVIDER_MODEL,
  choices: [{ index: 0, delta, finish_reason: finishReason }],
});

/** @param port 0 for any free one; a fixed one for a provider that comes back after an outage */
export async function startRawProvider(port = 0): Promise<RawProvider> {
  const calls: ProviderCall[] = [];
  const waiting = new Set<() => void>();

  const server = createServer((request, response) => {
    void receive(request, response).catch(() => response.destroy());
  });

  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = JSON.parse(Buffer.concat(parts).toString()) as ProviderCall['body'];
    const ended = Promise.withResolvers<'provider' | 'client'>();
    const released = Promise.withResolvers<void>();
    const call: ProviderCall = {
      model: body.model,
      // Messages in a row arrive as one turn, a paragraph each.
      question:
        body.messages
          .findLast(({ role }) => role === 'user')
          ?.content.split('\n\n')
          .at(-1) ?? '',
      body,
      headers: request.headers,
      receivedAtMs: Date.now(),
      ended: ended.promise,
      release: released.resolve,
    };
    calls.push(call);
    const [name = '', ...args] = call.model.split(':');
    const mode = MODES[name];
    const exchange = new Exchange(
      call,
      response,
      calls.filter(({ question }) => question === call.question).length,
      released.promise,
    );
    response.on('close', () => ended.resolve(exchange.endedBy));
    for (const look of waiting) look();
    response.setHeader('content-type', 'text/event-stream');
    // An unknown model is a model for which nothing goes wrong: the chatbots' own, the configured default.
    await (mode ?? MODES.ok!)(exchange, ...args);
  }

  async function callAbout(text: string): Promise<ProviderCall> {
    const { promise, resolve } = Promise.withResolvers<ProviderCall>();
    const look = () => {
      const call = calls.find(({ question }) => question.includes(text));
      if (call) resolve(call);
    };
    waiting.add(look);
    look();
    return promise.finally(() => waiting.delete(look));
  }

  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    calls,
    callAbout,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
