import { APIError } from 'openai';
import { createParser } from 'eventsource-parser';
import { notAStreamError, tooLargeError } from './llm-errors.js';

/** The longest answer that REPLY_MAX_CHARS allows, escaped as \uXXXX, sent as one event. */
const MAX_EVENT_CHARS = 8 * 1024 * 1024;
/** A bound on traffic, not on text: an event of about 300 bytes for each token, a model's hidden thoughts included. */
const MAX_RESPONSE_BYTES = 128 * 1024 * 1024;

/** The provider has said that nothing follows. */
export const DONE = Symbol('DONE');

/**
 * The chunks of an answer, parsed and otherwise as they came, then {@link DONE} where the provider says so; an end
 * without it is the end of the body. Reads server-sent events, also where they are declared as something else; one
 * JSON document, from a server that ignores `stream: true`; and one JSON object a line.
 *
 * Events without data, comments and empty data keep a connection alive and mean nothing.
 *
 * @throws APIError for an error event; SyntaxError for broken JSON; LlmError for a body that is neither, or too large
 */
export async function* completionChunks(response: Response): AsyncGenerator<unknown, void, undefined> {
  const contentType = response.headers.get('content-type') ?? '';
  if (/^text\/html/i.test(contentType)) {
    await response.body?.cancel();
    throw notAStreamError(contentType);
  }
  if (!response.body) return;
  let reader: BodyReader | null = null;
  let beginning = '';
  for await (const text of decoded(response.body)) {
    let rest = text;
    if (!reader) {
      beginning += text;
      const first = /[^\s\uFEFF]/.exec(beginning);
      if (!first) continue;
      reader = first[0] === '{' || first[0] === '[' ? new JsonBody(contentType) : new EventBody();
      rest = beginning;
    }
    for (const chunk of reader.push(rest)) {
      yield orError(chunk, response.headers);
      if (chunk === DONE) return;
    }
  }
  for (const chunk of reader?.end() ?? []) yield orError(chunk, response.headers);
}

async function* decoded(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let bytes = 0;
  for await (const part of body) {
    bytes += part.length;
    if (bytes > MAX_RESPONSE_BYTES) throw tooLargeError('A response', MAX_RESPONSE_BYTES);
    yield decoder.decode(part, { stream: true });
  }
  yield decoder.decode();
}

interface BodyReader {
  push(text: string): Iterable<unknown>;
  end(): Iterable<unknown>;
}

class EventBody implements BodyReader {
  private read: unknown[] = [];
  private readonly parser = createParser({
    onEvent: ({ event, data }) => {
      if (data.trim() !== '') this.read.push(parseData(data, event));
    },
    onError: (error) => {
      if (error.type === 'max-buffer-size-exceeded') throw tooLargeError('An event', MAX_EVENT_CHARS);
      // Anything else is a line that is no field: ignored, as the standard wants it.
    },
    maxBufferSize: MAX_EVENT_CHARS,
  });

  push(text: string): unknown[] {
    this.parser.feed(text);
    const read = this.read;
    this.read = [];
    return read;
  }

  /** The last event may lack the empty line behind it. */
  end(): unknown[] {
    return this.push('\n\n');
  }
}

class JsonBody implements BodyReader {
  private text = '';

  constructor(private readonly contentType: string) {}

  push(text: string): unknown[] {
    this.text += text;
    if (this.text.length > MAX_EVENT_CHARS) throw tooLargeError('A document', MAX_EVENT_CHARS);
    return [];
  }

  end(): unknown[] {
    const chunks = parseDocuments(this.text.replace(/^\uFEFF/, '').trim());
    if (!chunks.some((chunk) => isObject(chunk) && ('choices' in chunk || isErrorDocument(chunk)))) {
      throw notAStreamError(this.contentType);
    }
    return chunks;
  }
}

/** One document, or one a line. */
function parseDocuments(text: string): unknown[] {
  try {
    return [JSON.parse(text)];
  } catch (error) {
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    if (lines.length < 2) throw error;
    return lines.map((line) => JSON.parse(line) as unknown);
  }
}

/** An error that an event's name declares, with what it says. */
class ErrorEvent {
  constructor(readonly data: unknown) {}
}

function parseData(data: string, event: string | undefined): unknown {
  if (/^"?\[DONE\]"?$/i.test(data.trim())) return DONE;
  const parsed: unknown = JSON.parse(data);
  return event === 'error' ? new ErrorEvent(parsed) : parsed;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

/** `{ error: … }` of most servers, and vLLM's `{ object: 'error', message, code }`. */
const isErrorDocument = (value: Record<string, unknown>): boolean =>
  saysSomething(value['error']) || value['object'] === 'error' || value['type'] === 'error';

/** Some servers have an `error` in every chunk, which is empty while there is none. */
function saysSomething(error: unknown): boolean {
  if (!isObject(error)) return Boolean(error);
  return Object.values(error).some((value) => (isObject(value) ? saysSomething(value) : Boolean(value)));
}

function orError(chunk: unknown, headers: Headers): unknown {
  const isDeclared = chunk instanceof ErrorEvent;
  const value = isDeclared ? chunk.data : chunk;
  if (!isDeclared && !(isObject(value) && isErrorDocument(value))) return chunk;
  const inner = isObject(value) && saysSomething(value['error']) ? value['error'] : value;
  const error = isObject(inner) ? inner : { message: String(inner) };
  throw new APIError(undefined, error, undefined, headers);
}
