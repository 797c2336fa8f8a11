import OpenAI, { APIError } from 'openai';
import type { ChatCompletionCreateParams } from 'openai/resources/chat/completions';
import { type Dispatcher, EnvHttpProxyAgent, fetch } from 'undici';
import { AnswerReader } from './answer-reader.js';
import { completionChunks, DONE } from './completion-stream.js';
import { type ChatTurn, LlmClient, type LlmChunk, type LlmRequest } from './llm-client.js';
import { timeoutError, toLlmError } from './llm-errors.js';
import { OptionalParts, type OptionalPart } from './optional-parts.js';
import { tracedChat } from './traced-chat.js';

const OPENAI_URL = 'https://api.openai.com/v1';

/** What follows a whole answer, its usage above all, follows at once. The guest does not wait longer for it. */
const END_TIMEOUT_MS = 2_000;

/** The proxies between this process and its models, as `HTTP_PROXY` and its relatives name them. */
export interface Proxies {
  httpProxy?: string;
  httpsProxy?: string;
  noProxy?: string;
}

export interface OpenAiClientOptions {
  /** A local server needs none. */
  apiKey?: string;
  /** Up to and with `/v1`; OpenAI's own without it. */
  baseUrl?: string;
  /** Used where a request names none. */
  model: string;
  /** To connect, TLS included. */
  connectTimeoutMs: number;
  /** From sending the request to the first text, or to the first sign that the model thinks. */
  firstTokenTimeoutMs: number;
  /** From sending the request to the first text, for a model that thinks first and shows that it does. */
  thinkingTimeoutMs: number;
  /** Between two events after that. */
  idleTimeoutMs: number;
  /** For the whole call. */
  totalTimeoutMs: number;
  /** Models whose answers begin inside a thought, whose opening tag their server keeps to itself. */
  thinksFirstModels?: readonly string[];
  proxies?: Proxies;
}

/**
 * Any OpenAI-compatible chat-completions server.
 *
 * The `openai` package makes the request and its errors. The body is read here: the package reports a clean cut, and
 * even our own abort, as a stream that ends well, covers only the response headers with its timeout, reads lines of any
 * length and takes events without data for broken JSON. So the limits are ours: the watchdogs, the bounds on bytes and
 * the rules for what makes an answer, in {@link AnswerReader}.
 */
export class OpenAiClient extends LlmClient {
  private readonly dispatcher: Dispatcher;
  private readonly openai: OpenAI;
  private readonly headers: Record<string, string>;
  private readonly optionalParts = new OptionalParts();
  private readonly thinksFirstModels: ReadonlySet<string>;

  constructor(private readonly options: OpenAiClientOptions) {
    super();
    const server = new URL(options.baseUrl ?? OPENAI_URL);
    const { httpProxy, httpsProxy, noProxy = '' } = options.proxies ?? {};
    const proxy = server.protocol === 'https:' ? httpsProxy : httpProxy;
    this.dispatcher = new EnvHttpProxyAgent({
      // Always given: the agent would read the environment itself, and take one for the other.
      httpProxy: proxy ?? '',
      httpsProxy: proxy ?? '',
      noProxy,
      connect: { timeout: options.connectTimeoutMs },
      proxyTls: { timeout: options.connectTimeoutMs },
      headersTimeout: 0, // the watchdogs below know why they wait
      bodyTimeout: 0,
      allowH2: false, // one connection a call: closing it tells any server to stop generating
    });
    this.openai = new OpenAI({
      apiKey: options.apiKey ?? 'none', // the package insists on one; what is sent is decided below
      baseURL: server.origin + server.pathname.replace(/\/+$/, ''),
      defaultQuery: Object.fromEntries(server.searchParams), // such as Azure's api-version
      maxRetries: 0, // the reply's row owns the retries
      timeout: options.totalTimeoutMs,
      logLevel: 'off', // it would print to the console; the caller logs the error
      fetch: (url, init) => this.send(String(url), init),
    });
    // These and no others: the package adds what it finds in OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS and more.
    this.headers = {
      accept: 'text/event-stream',
      'content-type': 'application/json',
      ...(options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` }),
    };
    this.thinksFirstModels = new Set(options.thinksFirstModels?.map((model) => model.toLowerCase()));
  }

  override modelFor(request: Pick<LlmRequest, 'model'>): string {
    return request.model ?? this.options.model;
  }

  override stream(request: LlmRequest): AsyncGenerator<LlmChunk, void, undefined> {
    const server = new URL(this.options.baseUrl ?? OPENAI_URL);
    return tracedChat({ provider: 'openai', model: this.modelFor(request), server }, this.call(request));
  }

  private async *call(request: LlmRequest): AsyncGenerator<LlmChunk, void, undefined> {
    request.signal.throwIfAborted();
    const { firstTokenTimeoutMs, thinkingTimeoutMs, idleTimeoutMs, totalTimeoutMs } = this.options;
    const watchdog = new Watchdog(totalTimeoutMs);
    const signal = AbortSignal.any([request.signal, watchdog.signal]);
    const answer = new AnswerReader(this.thinksFirstModels.has(this.modelFor(request).toLowerCase()));
    try {
      watchdog.expect('first token', firstTokenTimeoutMs);
      for await (const chunk of completionChunks(await this.complete(request, signal))) {
        if (chunk === DONE) {
          answer.markDone();
          break;
        }
        const text = answer.read(chunk);
        // The time that the consumer takes over a chunk is not the provider's silence.
        if (answer.hasBegun || answer.isThinking) watchdog.relax();
        if (text !== '') yield { type: 'text', text };
        if (answer.isSettled) watchdog.expect('end', Math.min(END_TIMEOUT_MS, idleTimeoutMs));
        else if (answer.hasBegun) watchdog.expect('next token', idleTimeoutMs);
        else if (answer.isThinking) {
          watchdog.expectWithin('text after its thoughts', thinkingTimeoutMs, 'next thought', idleTimeoutMs);
        }
      }
      signal.throwIfAborted(); // a body that was cut by an abort may end as if it were whole
    } catch (error) {
      request.signal.throwIfAborted();
      // Once settled, the answer is whole, and at worst its usage is lost. Where its reason came together with text, more
      // text may have been on its way when the connection broke.
      const isWhole = answer.isSettled && (watchdog.signal.aborted || answer.hasEndAlone);
      if (!isWhole) {
        watchdog.signal.throwIfAborted();
        throw toLlmError(error);
      }
    } finally {
      watchdog.stop();
    }
    yield* answer.end();
  }

  override async close(): Promise<void> {
    await this.dispatcher.destroy();
  }

  /** Asks, and asks once more without each optional part that the server refuses by name. */
  private async complete(request: LlmRequest, signal: AbortSignal): Promise<Response> {
    const model = this.modelFor(request);
    for (;;) {
      const parts = this.optionalParts.of(model);
      try {
        const body = bodyOf(model, request.turns, parts);
        return await this.openai.chat.completions.create(body, { signal }).asResponse();
      } catch (error) {
        const refused = error instanceof APIError && this.optionalParts.refusedBy(error, parts);
        if (!refused) throw error;
        this.optionalParts.leaveOut(model, refused);
      }
    }
  }

  /** The fetch below the package: our headers, our connections. */
  private async send(url: string, init: RequestInit = {}): Promise<Response> {
    const response = await fetch(url, {
      method: init.method,
      body: init.body as string,
      signal: init.signal,
      headers: this.headers,
      dispatcher: this.dispatcher,
      redirect: 'manual', // never followed: the key is for the configured address only; shows as its 3xx status
    });
    return response;
  }
}

function bodyOf(
  model: string,
  turns: readonly ChatTurn[],
  parts: ReadonlySet<OptionalPart>,
): ChatCompletionCreateParams {
  const messages = alternating(parts.has('system') ? turns : withoutSystem(turns));
  if (!parts.has('stream')) return { model, messages };
  return {
    model,
    messages,
    stream: true,
    ...(parts.has('stream_options') && { stream_options: { include_usage: true } }),
  };
}

/** What stands in for the guest's first turn where the chatbot spoke first, with its greeting. */
const OPENING = '(The guest opens the chat.)';

/**
 * The same turns as strict templates want them: after the system turn the user begins, and user and assistant take
 * turns. What one side said in a row becomes one turn, in its order.
 */
function alternating(turns: readonly ChatTurn[]): ChatTurn[] {
  const joined: ChatTurn[] = [];
  for (const { role, content } of turns) {
    const last = joined.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else {
      if (role === 'assistant' && last?.role !== 'user') joined.push({ role: 'user', content: OPENING });
      joined.push({ role, content });
    }
  }
  return joined;
}

/** What the system turn says at the beginning of the first user turn, for a model that knows no such role. */
function withoutSystem(turns: readonly ChatTurn[]): ChatTurn[] {
  const system = turns.filter(({ role }) => role === 'system').map(({ content }) => content);
  const [first, ...rest] = turns.filter(({ role }) => role !== 'system');
  if (system.length === 0 || !first) return [...turns];
  const said = system.join('\n\n');
  return first.role === 'user'
    ? [{ role: 'user', content: `${said}\n\n${first.content}` }, ...rest]
    : [{ role: 'user', content: said }, first, ...rest];
}

/** Aborts a call when what it waits for does not come in time. */
class Watchdog {
  private readonly controller = new AbortController();
  private readonly total: NodeJS.Timeout;
  private readonly startedAt = performance.now();
  private current: NodeJS.Timeout | undefined;

  constructor(totalTimeoutMs: number) {
    this.total = this.abortAfter('complete answer', totalTimeoutMs);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Waits for this instead of what it waited for before. */
  expect(awaited: string, timeoutMs: number): void {
    this.relax();
    this.current = this.abortAfter(awaited, timeoutMs);
  }

  /** Waits for the next step, and no longer than until a time since the beginning for what all steps lead to. */
  expectWithin(goal: string, limitMs: number, step: string, stepMs: number): void {
    const leftMs = this.startedAt + limitMs - performance.now();
    this.relax();
    this.current =
      leftMs < stepMs ? this.abortAfter(goal, Math.max(0, leftMs), limitMs) : this.abortAfter(step, stepMs);
  }

  /** Waits for nothing but the whole. */
  relax(): void {
    clearTimeout(this.current);
  }

  stop(): void {
    clearTimeout(this.current);
    clearTimeout(this.total);
  }

  private abortAfter(awaited: string, timeoutMs: number, toldMs = timeoutMs): NodeJS.Timeout {
    return setTimeout(() => this.controller.abort(timeoutError(awaited, toldMs)), timeoutMs);
  }
}
