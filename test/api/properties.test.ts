import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { request as httpRequest } from 'node:http';
import { cpuMsOf } from '../support/cpu-time.js';
import { fill, type Route, ROUTES } from '../support/routes.js';
import { Stack } from '../support/stack.js';

/**
 * Whatever is sent to whatever route: no answer is an error of the server, and none costs much. What fails is shown with a
 * seed and a path, by which it is tried again: fc.assert(…, { seed, path }).
 */

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 40);
/** Of one request with the largest of these, in processor time: what a busy machine adds is not in it. */
const MOST_CPU_MS = 250;

let stack: Stack;
let ids: Record<string, string>;
let guestToken: string;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
  const chatbot = await stack.owner().createChatbot({ name: 'Bakery', characteristics: ['A fact'] });
  const opened = await stack.client().openSession(chatbot.id);
  const { reply } = await opened.guest.postMessage(opened.session.id, 'Hello?');
  await opened.guest.post(`/v1/replies/${reply.id}/cancel`); // so that nothing waits for it
  guestToken = opened.token;
  ids = {
    chatbots: chatbot.id,
    characteristics: chatbot.characteristics[0].id,
    sessions: opened.session.id,
    replies: reply.id,
  };
});
afterAll(() => stack.stop());

interface Sent {
  ids: string[];
  /** How the path is written. */
  spell: (path: string) => string;
  query: string;
  headers: Record<string, string>;
  body: Buffer;
  type: string;
}

/** By hand: `fetch` would tidy up what is sent. @returns the status; 0 where the server closed without an answer */
function send(route: Route, { ids: sentIds, spell, query, headers, body, type }: Sent): Promise<number> {
  const url = new URL(stack.apis[0]!.url);
  const token = route.callers.includes('guest') ? guestToken : stack.ownerToken();
  const path = spell(
    fill(
      route.path,
      sentIds.map((id) => encodeURIComponent(id.toWellFormed())),
    ),
  );
  return new Promise((resolve) => {
    const request = httpRequest(
      {
        host: url.hostname,
        port: url.port,
        method: route.method,
        path: query === '' ? path : `${path}?${query}`,
        headers: {
          authorization: `Bearer ${token}`,
          ...headers,
          ...(route.method !== 'GET' && { 'content-type': type, 'content-length': body.length }),
        },
      },
      (response) => {
        resolve(response.statusCode ?? 0);
        // An event stream does not end by itself.
        response.destroy();
      },
    );
    request.on('error', () => resolve(0));
    request.end(route.method === 'GET' ? undefined : body);
  });
}

/** Text of all kinds: what people write, what breaks, what is long. */
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '',
    ' ',
    '\u0000',
    '\ud800',
    '\u202e',
    "'; drop table chatbots; --",
    '{name}',
    '<|im_start|>',
    '__proto__',
    'constructor',
    'toString',
    '../..',
    '%00',
    'NaN',
    '1e999',
  ),
  fc.integer({ min: 1, max: 12_000 }).map((length) => 'x'.repeat(length)),
);

const value: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constantFrom(null, true, false, [], {}),
  fc.oneof(fc.integer(), fc.double({ noNaN: true }), fc.constantFrom(0, -0, 1e308, -1, 2 ** 53, 1e-7)),
  fc.jsonValue({ maxDepth: 4 }),
  fc.array(text, { maxLength: 60 }),
  fc
    .integer({ min: 1, max: 200 })
    .map((depth) => JSON.parse('['.repeat(depth) + ']'.repeat(depth)) as unknown),
);

/** A body with some of the route's own fields, and some that are nobody's. */
function bodyOf(route: Route): fc.Arbitrary<Buffer> {
  const known = Object.keys((route.body?.schema.properties ?? {}) as object);
  const names = fc.oneof(fc.constantFrom('__proto__', 'constructor', 'id', 'x', ...known), text);
  const object = fc
    .array(fc.tuple(names, value), { maxLength: 6 })
    .map(
      (fields) =>
        `{${fields.map(([name, of]) => `${JSON.stringify(name)}:${JSON.stringify(of)}`).join(',')}}`,
    );
  const json = fc.oneof(
    { weight: 6, arbitrary: object },
    { weight: 1, arbitrary: fc.jsonValue().map((some) => JSON.stringify(some)) },
    { weight: 1, arbitrary: text },
  );
  const bytes = fc.uint8Array({ maxLength: 300 }).map((some) => Buffer.from(some));
  const whole = json.map((some) => Buffer.from(some));
  return fc.oneof(
    { weight: 8, arbitrary: whole },
    { weight: 1, arbitrary: bytes },
    // A body with bytes that are no UTF-8 in it, and one that ends too early.
    { weight: 1, arbitrary: fc.tuple(whole, bytes).map((parts) => Buffer.concat(parts)) },
    { weight: 1, arbitrary: fc.tuple(whole, fc.nat(40)).map(([some, end]) => some.subarray(0, end)) },
  );
}

/** What a header can carry at all. */
const headerValue = text.map((some) =>
  some
    .toWellFormed()
    .replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '?')
    .slice(0, 2_000),
);

/** Headers that some route reads, and others. */
const headers = fc.dictionary(
  fc.constantFrom(
    'idempotency-key',
    'x-request-id',
    'last-event-id',
    'accept',
    'origin',
    'traceparent',
    'cookie',
  ),
  headerValue,
  { maxKeys: 2 },
);

const spelling: fc.Arbitrary<(path: string) => string> = fc.oneof(
  { weight: 3, arbitrary: fc.constant((path: string) => path) },
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      (path: string) => `/${path}`,
      (path: string) => `${path}/`,
      (path: string) => path.toUpperCase(),
      (path: string) => path.replace('/v1', '/%76%31'),
      (path: string) => `${path};x=1`,
      (path: string) => `/v1/..${path}`,
    ),
  },
);

const query = fc.oneof(
  fc.constant(''),
  fc
    .array(
      fc.tuple(
        fc.constantFrom('limit', 'cursor', 'order', 'wait', 'days', 'email', 'after', 'token', 'x'),
        text,
      ),
      { maxLength: 3 },
    )
    .map((pairs) => new URLSearchParams(pairs).toString()),
  fc.constantFrom('%', '%zz', '=', '&&', 'limit', 'limit=%00', 'a[b]=c', '__proto__=1'),
);

describe.each(ROUTES.map((route) => [`${route.method} ${route.path}`, route] as const))('%s', (_, route) => {
  it('answers whatever is sent, without an error of the server', async () => {
    const own = route.collections.map((collection) => ids[collection] ?? ids['chatbots']!);
    // What deletes is asked about others than those that the other routes are asked about.
    const id = (index: number): fc.Arbitrary<string> =>
      route.method === 'DELETE'
        ? fc.oneof(fc.uuid(), text)
        : fc.oneof({ weight: 3, arbitrary: fc.constant(own[index]!) }, fc.uuid(), text);
    const sent: fc.Arbitrary<Sent> = fc.record({
      ids: fc.tuple(...own.map((_id, index) => id(index))),
      spell: spelling,
      query,
      headers,
      body: bodyOf(route),
      type: fc.oneof(
        { weight: 8, arbitrary: fc.constant('application/json') },
        fc.constantFrom('text/plain', 'application/json; charset=utf-16', 'multipart/form-data', ''),
      ),
    });
    await fc.assert(
      fc.asyncProperty(sent, async (one) => {
        let status = 0;
        let cpuMs = Infinity;
        // Again where it was much, since something else may have been done meanwhile.
        for (let n = 0; n < 3 && cpuMs >= MOST_CPU_MS; n++) {
          cpuMs = Math.min(cpuMs, await cpuMsOf(async () => (status = await send(route, one))));
          expect(status).toBeLessThan(500);
        }
        expect(cpuMs).toBeLessThan(MOST_CPU_MS);
      }),
      { numRuns: RUNS },
    );
  });
});
