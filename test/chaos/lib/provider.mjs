import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { hash, Random } from './random.mjs';

/**
 * The far side of the network: a chat-completions server with faults. What it says depends on the question and on
 * how many calls about it came before, so that text that is cut, mixed of two attempts or of another session shows.
 *
 * A question is the tag in a user message: `[s12-3]`.
 */

const TAG = /\[([a-z0-9-]+)\]/;

/** @param {string} text */
export const tagOf = (text) => TAG.exec(text)?.[1] ?? null;

const WORDS = [
  'one',
  'two',
  'naïve',
  '漢字',
  '👩‍👩‍👧',
  'three',
  '😀😀',
  'four',
  'ünïcödé',
  'five',
  'six',
  'Straße',
];

/**
 * The whole answer of a call.
 *
 * @param {string} tag
 * @param {number} ordinal the nth call about this question
 * @param {[number, number]} words
 */
export function answerOf(tag, ordinal, words) {
  const random = new Random(hash(`${tag}#${ordinal}`));
  const count = random.integer(...words);
  const body = Array.from({ length: count }, (_, i) => `${random.pick(WORDS)}-${tag}.${ordinal}.${i}`);
  return `Answer ${ordinal} to ${tag}: ${body.join(' ')}. The end of ${tag}.${ordinal}.`;
}

/** How often each thing happens to a call. */
export const USUAL_FAULTS = {
  ok: 81,
  status: 4,
  pacing: 3,
  cut: 4,
  reset: 3,
  'stall-first': 1.5,
  'stall-mid': 1.5,
  'bad-json': 1,
  reject: 1,
};
export const NO_FAULTS = { ok: 1 };

/**
 * @typedef {object} Call
 * @property {string} worker which worker asked
 * @property {string} tag the question: the last user message
 * @property {string[]} asked the tags of all user messages, in the order of the prompt
 * @property {number} ordinal the nth call about this question
 * @property {string} kind what was done to it
 * @property {string} text the whole answer
 * @property {number} sentLength how much of it was sent
 * @property {boolean} isFinished the finish reason was sent
 * @property {number} startedAt
 * @property {number | null} endedAt
 * @property {'provider' | 'client' | null} endedBy
 */

export class Provider {
  /** @type {Call[]} */
  calls = [];
  /** @type {Map<string, Call[]>} */
  byTag = new Map();
  faults = USUAL_FAULTS;
  /** Milliseconds a token. @type {[number, number]} */
  paceMs = [5, 30];
  /** @type {[number, number]} */
  words = [10, 50];

  /** @param {number} seed */
  constructor(seed) {
    this.random = new Random(seed);
    this.server = createServer((request, response) => {
      this.#receive(request, response).catch(() => response.destroy());
    });
    this.server.keepAliveTimeout = 60_000;
  }

  async listen() {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = /** @type {import('node:net').AddressInfo} */ (this.server.address()).port;
  }

  /** A URL of a worker's own, so that calls tell whose they are. @param {string} worker */
  baseUrl(worker) {
    return `http://127.0.0.1:${this.port}/${worker}/v1`;
  }

  /** Calls that are open. @param {string} worker */
  openCallsOf(worker) {
    return this.calls.filter((call) => call.worker === worker && call.endedAt === null);
  }

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   */
  async #receive(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = JSON.parse(Buffer.concat(parts).toString());
    // Messages in a row arrive as one turn, a paragraph each; what stands in for a first turn of the guest asks nothing.
    const asked = body.messages
      .filter(({ role }) => role === 'user')
      .flatMap(({ content }) => content.split('\n\n'))
      .filter((text) => text !== '(The guest opens the chat.)')
      .map((text) => tagOf(text) ?? `?${text}`);
    const tag = asked[asked.length - 1] ?? '?';
    const earlier = this.byTag.get(tag) ?? [];
    const ordinal = earlier.length + 1;
    /** @type {Call} */
    const call = {
      worker: (request.url ?? '').split('/')[1] ?? '',
      tag,
      asked,
      ordinal,
      kind: this.random.weighted(this.faults),
      text: answerOf(tag, ordinal, this.words),
      sentLength: 0,
      isFinished: false,
      startedAt: Date.now(),
      endedAt: null,
      endedBy: null,
    };
    this.calls.push(call);
    this.byTag.set(tag, [...earlier, call]);
    let isEndedHere = false;
    const end = () => (isEndedHere = true);
    response.on('close', () => {
      call.endedAt = Date.now();
      call.endedBy = isEndedHere ? 'provider' : 'client';
    });
    response.on('error', () => undefined);
    await this.#answer(call, response, end);
  }

  /**
   * @param {Call} call
   * @param {import('node:http').ServerResponse} response
   * @param {() => void} end to be called before the answer is ended from here
   */
  async #answer(call, response, end) {
    const random = new Random(hash(`${call.tag}/${call.ordinal}`));
    const isOpen = () => !response.destroyed && !response.writableEnded;
    const fail = (status, error, headers = {}) => {
      end();
      response
        .writeHead(status, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify({ error: { message: `Failed with ${status}.`, ...error } }));
    };
    switch (call.kind) {
      case 'status':
        return fail(random.pick([500, 502, 503, 529]), { type: 'server_error' });
      case 'pacing':
        return fail(429, { code: 'rate_limit_exceeded' }, { 'retry-after': String(random.integer(1, 2)) });
      case 'reject':
        return fail(400, { code: 'invalid_request' });
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    if (call.kind === 'stall-first') return; // the caller's patience ends it
    const tokens = call.text.match(/\S+\s*/g) ?? [];
    const upTo = call.kind === 'ok' ? tokens.length : random.integer(1, tokens.length - 1);
    const pace = random.between(...this.paceMs);
    for (const token of tokens.slice(0, upTo)) {
      await sleep(pace);
      if (!isOpen()) return;
      response.write(event({ choices: [{ index: 0, delta: { content: token }, finish_reason: null }] }));
      call.sentLength += token.length;
    }
    switch (call.kind) {
      case 'stall-mid':
        return;
      case 'cut':
        end();
        response.end();
        return;
      case 'reset':
        end();
        response.socket?.resetAndDestroy();
        return;
      case 'bad-json':
        end();
        response.end('data: {"choices":[{"delta":\n\n');
        return;
    }
    call.isFinished = true;
    end();
    response.write(event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }));
    if (random.chance(0.8)) {
      response.write(event({ choices: [], usage: { prompt_tokens: 100, completion_tokens: tokens.length } }));
    }
    response.end('data: [DONE]\n\n');
  }

  async close() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** @param {unknown} data */
const event = (data) => `data: ${JSON.stringify(data)}\n\n`;
