import OpenAI, { APIError } from 'openai';
import type {
  ChatCompletionChunk,
  ChatCompletionCreateParamsStreaming,
} from 'openai/resources/chat/completions';
import { Agent, fetch } from 'undici';
import { FinishReason, LlmClient, type LlmChunk, type LlmRequest } from './llm-client.js';
import { notAStreamError, timeoutError, tooLargeError, toLlmError } from './llm-errors.js';
import { tracedChat } from './traced-chat.js';
import { WellFormedText } from './well-formed.js';

const OPENAI_URL = 'https://api.openai.com/v1';

/** The longest answer that REPLY_MAX_CHARS allows, escaped as \uXXXX, sent as one event. */
const MAX_EVENT_BYTES = 8 * 1024 * 1024;
/** A bound on traffic, not on text: an event of about 300 bytes for each token, a model's hidden thoughts included. */
const MAX_RESPONSE_BYTES = 128 * 1024 * 1024;
/** What a server calls its model is its own affair, and goes into logs and traces. */
const MAX_MODEL_NAME_CHARS = 255;
/** The usage follows the finish at once. The guest's answer is complete and does not wait longer for it. */
const USAGE_TIMEOUT_MS = 2_000;

export interface OpenAiClientOptions {
  /** A local server needs none. */
  apiKey?: string;
  /** Up to and with `/v1`; OpenAI's own without it. */
  baseUrl?: string;
  /** Used where a request names none. */
  model: string;
  /** To connect, TLS included. */
  connectTimeoutMs: number;
  /** From sending the request to the first text. */
  firstTokenTimeoutMs: number;
  /** Between two events after that. */
  idleTimeoutMs: number;
  /** For the whole call. */
  totalTimeoutMs: number;
}

/**
 * Any OpenAI-compatible chat-completions server.
 *
 * The `openai` package reports a clean cut, a refused content type and even our own abort as a stream that
 * ends well, covers only the response headers with its timeout and reads lines of any length. So the limits
 * are ours: the watchdogs, the bounds on bytes and the rule that only a finish reason makes an answer.
 */
export class OpenAiClient extends LlmClient {
  private readonly agent: Agent;
  private readonly openai: OpenAI;
  private readonly headers: Record<string, string>;
  /** Some servers refuse `stream_options`, and say so once. */
  private canAskForUsage = true;

  constructor(private readonly options: OpenAiClientOptions) {
    super();
    this.agent = new Agent({
      connect: { timeout: options.connectTimeoutMs },
      headersTimeout: 0, // the watchdogs below know why they wait
      bodyTimeout: 0,
      allowH2: false, // one connection a call: closing it tells any server to stop generating
    });
    this.openai = new OpenAI({
      apiKey: options.apiKey ?? 'none', // the package insists on one; what is sent is decided below
      baseURL: options.baseUrl ?? OPENAI_URL,
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
    const { firstTokenTimeoutMs, idleTimeoutMs, totalTimeoutMs } = this.options;
    const watchdog = new Watchdog(totalTimeoutMs);
    const signal = AbortSignal.any([request.signal, watchdog.signal]);
    const text = new WellFormedText();
    let hasBegun = false;
    let isRefusal = false;
    let isFinished = false;
    let usage: LlmChunk | undefined;
    try {
      watchdog.expect('first token', firstTokenTimeoutMs);
      for await (const chunk of await this.complete(request, signal)) {
        const { content, refusal, finishReason, model, ...rest } = read(chunk);
        usage = rest.usage ?? usage; // some servers count along with every chunk
        if (!isFinished) {
          isRefusal ||= refusal !== '';
          hasBegun ||= content !== '' || isRefusal || finishReason !== undefined;
          // The time that the consumer takes over a chunk is not the provider's silence.
          if (hasBegun) watchdog.relax();
          const ready = text.push(content) + (finishReason === undefined ? '' : text.end());
          if (ready !== '') yield { type: 'text', text: ready };
          if (finishReason !== undefined) {
            isFinished = true;
            yield { type: 'finish', reason: finishReason, isRefusal, model };
          }
        }
        if (isFinished) watchdog.expect('usage', Math.min(USAGE_TIMEOUT_MS, idleTimeoutMs));
        else if (hasBegun) watchdog.expect('next token', idleTimeoutMs);
      }
      // The package ends the iteration on an abort as if the answer were complete.
      signal.throwIfAborted();
    } catch (error) {
      request.signal.throwIfAborted();
      // Once finished, the answer is whole; at worst its usage is lost.
      if (!isFinished) {
        watchdog.signal.throwIfAborted();
        throw toLlmError(error);
      }
    } finally {
      watchdog.stop();
    }
    if (usage !== undefined) yield usage;
  }

  override async close(): Promise<void> {
    await this.agent.destroy();
  }

  private async complete(
    request: LlmRequest,
    signal: AbortSignal,
  ): Promise<AsyncIterable<ChatCompletionChunk | null>> {
    const body: ChatCompletionCreateParamsStreaming = {
      model: this.modelFor(request),
      messages: request.turns.map(({ role, content }) => ({ role, content })),
      stream: true,
    };
    if (this.canAskForUsage) {
      try {
        return await this.openai.chat.completions.create(
          { ...body, stream_options: { include_usage: true } },
          { signal },
        );
      } catch (error) {
        if (!isStreamOptionsRefused(error)) throw error;
        this.canAskForUsage = false;
      }
    }
    return await this.openai.chat.completions.create(body, { signal });
  }

  /** The fetch below the package: our headers, our agent, bounded bytes, and nothing but an event stream. */
  private async send(url: string, init: RequestInit = {}): Promise<Response> {
    const response = await fetch(url, {
      method: init.method,
      body: init.body as string,
      signal: init.signal,
      headers: this.headers,
      dispatcher: this.agent,
      redirect: 'manual', // never followed: the key is for the configured address only; shows as its 3xx status
    });
    const contentType = response.headers.get('content-type') ?? '';
    if (response.ok && /^(text\/html|application\/json)/i.test(contentType)) {
      await response.body?.cancel();
      throw notAStreamError(contentType);
    }
    const body = response.body?.pipeThrough(boundedBytes()) ?? null;
    return new Response(body as ConstructorParameters<typeof Response>[0], {
      status: response.status,
      headers: [...response.headers],
    });
  }
}

/** Aborts a call when what it waits for does not come in time. */
class Watchdog {
  private readonly controller = new AbortController();
  private readonly total: NodeJS.Timeout;
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

  /** Waits for nothing but the whole. */
  relax(): void {
    clearTimeout(this.current);
  }

  stop(): void {
    clearTimeout(this.current);
    clearTimeout(this.total);
  }

  private abortAfter(awaited: string, timeoutMs: number): NodeJS.Timeout {
    return setTimeout(() => this.controller.abort(timeoutError(awaited, timeoutMs)), timeoutMs);
  }
}

/** What a chunk says, whatever its shape: servers differ, and the package checks nothing. */
function read(chunk: ChatCompletionChunk | null): {
  content: string;
  refusal: string;
  finishReason: FinishReason | undefined;
  model: string | undefined;
  usage: LlmChunk | undefined;
} {
  const choice = chunk?.choices?.[0];
  const { content, refusal } = choice?.delta ?? {};
  const { prompt_tokens: inputTokens, completion_tokens: outputTokens } = chunk?.usage ?? {};
  return {
    content: typeof content === 'string' ? content : '',
    refusal: typeof refusal === 'string' ? refusal : '',
    // Some servers send an empty reason with every chunk.
    finishReason: choice?.finish_reason ? toFinishReason(choice.finish_reason) : undefined,
    model: typeof chunk?.model === 'string' ? chunk.model.slice(0, MAX_MODEL_NAME_CHARS) : undefined,
    usage:
      typeof inputTokens === 'number' && typeof outputTokens === 'number'
        ? { type: 'usage', inputTokens, outputTokens }
        : undefined,
  };
}

/** Tool calls, which we never offer, and reasons that we do not know end the text like a stop. */
function toFinishReason(reason: string): FinishReason {
  if (reason === 'length') return FinishReason.Length;
  if (reason === 'content_filter') return FinishReason.ContentFilter;
  return FinishReason.Stop;
}

/** OpenAI and vLLM name the parameter with 400; servers with strict schemas, as Mistral's, with 422. */
const isStreamOptionsRefused = (error: unknown): boolean =>
  error instanceof APIError &&
  (error.status === 400 || error.status === 422) &&
  /stream_options|include_usage/.test(`${error.param} ${error.message}`);

/** Passes bytes through and fails as soon as an event (up to an empty line) or the whole is too large. */
function boundedBytes(): TransformStream<Uint8Array, Uint8Array> {
  const NEWLINE = 0x0a;
  const CARRIAGE_RETURN = 0x0d;
  let responseBytes = 0;
  let eventBytes = 0;
  let isLineEmpty = true;
  return new TransformStream({
    transform(chunk, controller) {
      responseBytes += chunk.length;
      if (responseBytes > MAX_RESPONSE_BYTES) throw tooLargeError('A response', MAX_RESPONSE_BYTES);
      for (const byte of chunk) {
        eventBytes++;
        if (byte === NEWLINE) {
          if (isLineEmpty) eventBytes = 0;
          isLineEmpty = true;
        } else if (byte !== CARRIAGE_RETURN) {
          isLineEmpty = false;
        }
      }
      if (eventBytes > MAX_EVENT_BYTES) throw tooLargeError('An event', MAX_EVENT_BYTES);
      controller.enqueue(chunk);
    },
  });
}
