import { createParser } from 'eventsource-parser';
import { problemOf } from './problem.js';

/**
 * A transport for the AI SDK's `useChat`. Its types are those of the SDK's `ChatTransport` as far as they are used here,
 * so that the SDK is no dependency; a test compiles it against the SDK's own.
 */
export interface AssistlyTransportOptions {
  /** Where the API is, as `https://chat.example.com`. */
  baseUrl: string;
  sessionId: string;
  /** The session token, or what gives it. */
  token: string | (() => string | Promise<string>);
  /**
   * `7` for version 7 of the SDK, which can take back the text of an attempt that was replaced. Left out, such a reply ends
   * in an error, and the next resume or regenerate shows it from its start.
   */
  protocol?: 7;
  /** Default: the global one. */
  fetch?: typeof globalThis.fetch;
}

/** The part of a `UIMessageChunk` that the API sends. */
export type AssistlyChunk =
  | { type: 'start'; messageId?: string; messageMetadata?: unknown }
  | { type: 'start-step' }
  | { type: 'reset-step' }
  | { type: 'text-start'; id: string }
  | { type: 'text-delta'; id: string; delta: string }
  | { type: 'text-end'; id: string }
  | { type: `data-${string}`; id?: string; data: unknown; transient?: boolean }
  | { type: 'message-metadata'; messageMetadata: unknown }
  | { type: 'finish-step' }
  | {
      type: 'finish';
      finishReason?: 'stop' | 'length' | 'content-filter' | 'tool-calls' | 'error' | 'other';
      messageMetadata?: unknown;
    }
  | { type: 'abort'; reason?: string }
  | { type: 'error'; errorText: string };

interface RequestOptions {
  headers?: Record<string, string> | Headers;
  body?: object;
}

interface SendOptions extends RequestOptions {
  trigger: 'submit-message' | 'regenerate-message';
  chatId: string;
  messageId: string | undefined;
  messages: readonly { role: string }[];
  abortSignal: AbortSignal | undefined;
}

export interface AssistlyTransport {
  /** What is reconnected to is told from its start. */
  readonly resumeStreamIsReplay: true;
  sendMessages(options: SendOptions): Promise<ReadableStream<AssistlyChunk>>;
  /** @returns null where nothing is being written */
  reconnectToStream(
    options: RequestOptions & { chatId: string },
  ): Promise<ReadableStream<AssistlyChunk> | null>;
  /**
   * Stops the model. The SDK's own `stop()` only closes the stream, as a page does that is left: call both, this one first.
   */
  stop(): Promise<void>;
}

export function assistlyTransport(options: AssistlyTransportOptions): AssistlyTransport {
  const { sessionId, token, protocol } = options;
  const api = `${options.baseUrl.replace(/\/+$/, '')}/v1/sessions/${sessionId}/chat`;

  async function call(
    method: string,
    path: string,
    { headers, body, signal, keepalive }: RequestOptions & { signal?: AbortSignal; keepalive?: boolean },
  ): Promise<Response> {
    const sent = new Headers(headers);
    sent.set('Authorization', `Bearer ${typeof token === 'string' ? token : await token()}`);
    if (body) sent.set('Content-Type', 'application/json');
    const response = await (options.fetch ?? globalThis.fetch)(api + path, {
      method,
      headers: sent,
      ...(body && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
      ...(keepalive && { keepalive }),
    });
    if (!response.ok) throw await refusalOf(response);
    return response;
  }

  return {
    resumeStreamIsReplay: true,
    async sendMessages({ trigger, chatId, messageId, messages, abortSignal, headers, body }) {
      const response = await call('POST', '', {
        headers,
        // The API has the rest, and reads the last user message only.
        body: {
          ...body,
          id: chatId,
          messages: messages.filter(({ role }) => role === 'user').slice(-1),
          trigger,
          messageId,
          protocol,
        },
        signal: abortSignal,
      });
      return chunksOf(response);
    },
    async reconnectToStream({ chatId, headers }) {
      const query = protocol === undefined ? '' : `?protocol=${protocol}`;
      const response = await call('GET', `/${encodeURIComponent(chatId)}/stream${query}`, { headers });
      return response.status === 204 ? null : chunksOf(response);
    },
    async stop() {
      await call('POST', '/stop', { keepalive: true });
    },
  };
}

/** The error that the SDK shows: before the stream, these routes answer with a text for people. */
async function refusalOf(response: Response): Promise<Error> {
  if (response.headers.get('content-type')?.includes('json')) return problemOf(response);
  const text = await response.text().catch(() => '');
  return new Error(text || `The server answered ${response.status}.`);
}

/**
 * The chunks of an answer. One that ends before its `[DONE]` was cut off, which the SDK would take for its end: so that is
 * an error, and of the kind after which it may reconnect.
 */
function chunksOf(response: Response): ReadableStream<AssistlyChunk> {
  let isDone = false;
  const chunks: AssistlyChunk[] = [];
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === '[DONE]') isDone = true;
      else chunks.push(JSON.parse(data) as AssistlyChunk);
    },
  });
  const decoder = new TextDecoder();
  const reader = response.body?.getReader();
  return new ReadableStream<AssistlyChunk>({
    async pull(controller) {
      while (chunks.length === 0) {
        if (isDone || !reader) return controller.close();
        const { done, value } = await reader.read();
        if (done) throw new TypeError('network error: the stream was cut off');
        parser.feed(decoder.decode(value, { stream: true }));
      }
      for (const chunk of chunks.splice(0)) controller.enqueue(chunk);
      if (isDone) controller.close();
    },
    cancel: (reason) => reader?.cancel(reason),
  });
}
