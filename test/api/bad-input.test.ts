import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { json } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Answer, ApiClient, Json } from '../support/api-client.js';
import { createOpenApiDocument } from '../support/product.js';
import { errorsAgainst, operations } from '../support/contract.js';
import { type Field, fieldsOf, fill, type Route, ROUTES } from '../support/routes.js';
import { vouch } from '../support/identity.js';
import { Stack } from '../support/stack.js';

/** One code point, two UTF-16 units, four bytes. */
const EMOJI = '😀';

let stack: Stack;
/** What the routes are about, by the segment of a path that stands before its id. */
const ids: Record<string, string> = {};
let guestToken = '';
/** Of the guest, as its owner vouches for it. */
let personToken = '';
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
  const chatbot = await stack.owner().createChatbot({ name: 'Bakery', characteristics: ['a', 'b'] });
  const { body: identity } = await stack.owner().post(`/v1/chatbots/${chatbot.id}/identity-secret`);
  personToken = await vouch(identity.secret, chatbot.id);
  const { session, token, guest } = await stack
    .client()
    .as(personToken)
    .openSession(chatbot.id, { guest: { name: 'Ada' } });
  const { reply } = await guest.postMessage(session.id, 'Hello?');
  await guest.post(`/v1/replies/${reply.id}/cancel`); // nothing goes on in the background
  Object.assign(ids, {
    chatbots: chatbot.id,
    characteristics: chatbot.characteristics[0].id,
    sessions: session.id,
    replies: reply.id,
    guests: session.guest.id,
  });
  guestToken = token;
});
afterAll(() => stack.stop());

/** What the reconciler does to a reply that waits or has ended, and to a count: no request's doing. */
const BACKGROUND = ['dispatch_count', 'dispatched_at', 'announced_at', 'is_counted', 'session_count'];

/** A digest of every row that a client can bring about. */
async function state(): Promise<Json> {
  const tables = ['chatbots', 'chatbot_characteristics', 'guests', 'chat_sessions', 'messages', 'replies'];
  const digests = tables.map(
    (name) =>
      `(select md5(coalesce(string_agg((to_jsonb(t) - $1::text[])::text, '|' order by t.id), ''))
        from ${name} t) as ${name}`,
  );
  return (await stack.database.query(`select ${digests.join(', ')}`, [BACKGROUND]))[0];
}

function expectProblem(answer: Answer<Json>, status: number, code: string, pointer?: string): void {
  expect([answer.status, answer.body?.code]).toEqual([status, code]);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json(;|$)/);
  expect(answer.body).toEqual({
    type: expect.any(String),
    title: expect.any(String),
    status,
    detail: expect.any(String),
    code,
    requestId: answer.headers.get('x-request-id'),
    ...(answer.body.errors !== undefined && {
      errors: expect.arrayContaining([{ pointer: expect.any(String), message: expect.stringMatching(/./) }]),
    }),
  });
  expect(answer.headers.get('x-request-id')).toMatch(/^[\x21-\x7e]{1,128}$/);
  if (pointer !== undefined)
    expect(answer.body.errors.map((error: Json) => error.pointer)).toContain(pointer);
}

/** An e-mail address of just this length. */
function emailOfLength(length: number): string {
  const local = `${'a'.repeat(63)}@`;
  const labels = Array.from({ length: 4 }, () => 'b'.repeat(40)).join('.');
  const rest = length - local.length - labels.length - '.'.length - '.com'.length;
  return `${local}${labels}.${'c'.repeat(rest)}.com`;
}

/** Of the field's type, and so many characters long. */
const ofLength = ({ isEmail }: Field, length: number): string =>
  isEmail ? emailOfLength(length) : EMOJI.repeat(length);

/** What a test needs to call a route. */
interface Callable {
  method: string;
  path: () => string;
  token: () => string | undefined;
}
interface BodyRoute extends Callable {
  success: number;
  good: object;
  fields: Field[];
}

const callable = ({ method, path, collections, callers }: Route): Callable => ({
  method,
  path: () =>
    fill(
      path,
      collections.map((collection) => ids[collection] ?? ''),
    ),
  token: () =>
    callers.includes('guest') ? guestToken : callers.includes('public') ? undefined : tokenFor(callers),
});

/** An owner's where the route is for owners. */
const tokenFor = (callers: readonly string[]): string =>
  callers.includes('person') ? personToken : stack.ownerToken();

/** Somebody who may call a route of the document. */
const callerOf = (method: string, path: string): ApiClient =>
  stack
    .client()
    .as(tokenFor(ROUTES.find((route) => route.method === method && route.path === path)?.callers ?? []));

/** Every route that takes a body with texts, but for the AI SDK's, whose errors are as it wants them: e2e/ai-sdk. */
const BODIES: Record<string, BodyRoute> = Object.fromEntries(
  ROUTES.flatMap((route) =>
    route.body === null || route.hasPlainErrors || fieldsOf(route.body).length === 0
      ? []
      : [
          [
            `${route.method} ${route.path}`,
            {
              ...callable(route),
              success: route.success,
              good: route.body.example,
              fields: fieldsOf(route.body),
            },
          ],
        ],
  ),
);

/** Routes that could take a body by their method, and take none. */
const BODILESS: Record<string, Callable> = Object.fromEntries(
  ROUTES.filter(({ method, body }) => /^(POST|PUT|PATCH)$/.test(method) && body === null).map((route) => [
    `${route.method} ${route.path}`,
    callable(route),
  ]),
);

type Sendable = string | Buffer<ArrayBuffer>;

function send(
  route: Callable,
  body: Sendable | undefined,
  headers: Record<string, string> = {},
): Promise<Answer<Json>> {
  const token = route.token();
  const client = token === undefined ? stack.client() : stack.client().as(token);
  return client.request(route.method, route.path(), {
    headers: { 'content-type': 'application/json', ...headers },
    ...(body !== undefined && { body }),
  });
}

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

/** Bodies that are bad whatever the route. The second is what it answers; the third, which pointer it names. */
type BadBodyRow = [
  what: string,
  status: number,
  code: string,
  body: Sendable,
  headers?: Record<string, string>,
  pointer?: string,
];

const BAD_BODY_ROWS: BadBodyRow[] = [
  ['an array', 400, 'invalid_request', '[]', {}, ''],
  ['an array of objects', 400, 'invalid_request', '[{"name":"x","content":"x"}]', {}, ''],
  ['a string', 400, 'invalid_request', '"content"', {}, ''],
  ['a number', 400, 'invalid_request', '1', {}, ''],
  ['true', 400, 'invalid_request', 'true', {}, ''],
  ['null', 400, 'invalid_request', 'null', {}, ''],
  ['white space', 400, 'malformed_json', ' \n'],
  ['half an object', 400, 'malformed_json', '{"name":"x"'],
  ['two objects', 400, 'malformed_json', '{}{}'],
  ['single quotes', 400, 'malformed_json', "{'name':'x'}"],
  ['a raw line break in a string', 400, 'malformed_json', '{"name":"a\nb"}'],
  [
    'bytes that are not UTF-8',
    400,
    'malformed_json',
    Buffer.concat([Buffer.from('{"name":"'), Buffer.of(0xff, 0xfe), Buffer.from('"}')]),
  ],
  [
    'a surrogate encoded as UTF-8',
    400,
    'malformed_json',
    Buffer.concat([Buffer.from('{"name":"'), Buffer.of(0xed, 0xa0, 0x80), Buffer.from('"}')]),
  ],
  [
    'a form’s media type',
    415,
    'unsupported_media_type',
    'name=x',
    { 'content-type': 'application/x-www-form-urlencoded' },
  ],
  ['text/plain', 415, 'unsupported_media_type', '{"name":"x"}', { 'content-type': 'text/plain' }],
  ['a media type that is none', 415, 'unsupported_media_type', '{"name":"x"}', { 'content-type': 'json' }],
  [
    'another charset',
    415,
    'unsupported_media_type',
    '{"name":"x"}',
    { 'content-type': 'application/json; charset=latin1' },
  ],
  ['an unknown encoding', 415, 'unsupported_media_type', '{}', { 'content-encoding': 'rot13' }],
  ['gzip that is none', 415, 'unsupported_media_type', '{"name":"x"}', { 'content-encoding': 'gzip' }],
  [
    'a compressed object',
    415,
    'unsupported_media_type',
    gzipSync('{"name":"x"}'),
    { 'content-encoding': 'gzip' },
  ],
  ['129 KiB', 413, 'payload_too_large', JSON.stringify({ name: 'x'.repeat(129 * 1024) })],
  [
    'a gzip bomb of 20 MB',
    415,
    'unsupported_media_type',
    gzipSync(Buffer.alloc(20_000_000, ' ')),
    { 'content-encoding': 'gzip' },
  ],
  ['an unknown field', 400, 'invalid_request', '{"colour":"red"}', {}, '/colour'],
  ['__proto__', 400, 'invalid_request', '{"__proto__":{"isAdmin":true}}', {}, '/__proto__'],
  ['constructor', 400, 'invalid_request', '{"constructor":{"prototype":{}}}', {}, '/constructor'],
  ['toString', 400, 'invalid_request', '{"toString":"x"}', {}, '/toString'],
  ['a field whose name must be escaped', 400, 'invalid_request', '{"a/b~c":1}', {}, '/a~1b~0c'],
  ['10,000 deep nesting', 400, 'invalid_request', `{"name":${nested(10_000)}}`],
  [
    '10,000 unknown fields',
    400,
    'invalid_request',
    JSON.stringify(Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, 1]))),
  ],
  ['43,600 empty objects', 400, 'invalid_request', `{"guest":[{}${',{}'.repeat(43_599)}]}`],
  [
    '1,001 values in lists of lists',
    400,
    'invalid_request',
    `{"a":${JSON.stringify(Array(100).fill(Array(9).fill(1)))}}`,
  ],
  ['a NUL in an unknown field', 400, 'invalid_request', String.raw`{"x\u0000":"\u0000"}`],
];

/** An object each, since `it.each` takes a row that is shorter than its function's parameters for a `done` callback. */
const BAD_BODIES = BAD_BODY_ROWS.map(([what, status, code, body, headers, pointer]) => ({
  what,
  status,
  code,
  body,
  headers,
  pointer,
}));

describe('a bad body', () => {
  let before: Json;
  beforeEach(async () => {
    before = await state();
  });
  afterEach(async () => {
    expect(await state()).toEqual(before); // nothing is stored
  });

  describe.each(Object.entries(BODIES))('of %s', (name, route) => {
    // Its limits together need more; chatbots.test.ts finds its bound.
    const isLarge = ['POST /v1/chatbots', 'PATCH /v1/chatbots/{id}'].includes(name);

    it.each(BAD_BODIES.filter(({ what }) => !(isLarge && what === '129 KiB')))(
      'is refused: $what is $status $code',
      async ({ status, code, body, headers, pointer }) => {
        expectProblem(await send(route, body, headers), status, code, pointer);
      },
    );

    it('is refused: what exceeds its bound without a length is 413 payload_too_large', async () => {
      const token = route.token();
      const client = token === undefined ? stack.client() : stack.client().as(token);
      const chunks = new Blob([`{"name":"${'x'.repeat(isLarge ? 20_000_000 : 129 * 1024)}"}`]).stream();

      const answer = await client.request(route.method, route.path(), {
        headers: { 'content-type': 'application/json' },
        body: chunks,
        duplex: 'half',
      });

      expectProblem(answer, 413, 'payload_too_large');
    });

    it('is refused: fields of the answers are no fields of the request', async () => {
      for (const field of [
        'id',
        'clerkUserId',
        'chatbotId',
        'sender',
        'sequence',
        'role',
        'status',
        'createdAt',
      ]) {
        const answer = await send(route, JSON.stringify({ ...route.good, [field]: 'x' }));

        expectProblem(answer, 400, 'invalid_request', `/${field}`);
      }
    });

    describe.each(route.fields.map((field) => [field.pointer, field] as const))('in %s', (pointer, field) => {
      it.each([
        ['a number', 1],
        ['a boolean', true],
        ['an object', { $gt: '' }],
        ['a list', ['x']],
        ['a NUL character', 'a\0b'],
        ['a lone surrogate', 'a\ud800b'],
        ['a surrogate pair the wrong way round', '\ude00\ud83d'],
        ['nesting within bounds', [[[['x']]]]],
      ])('is refused: %s is 400', async (_what, value) => {
        const answer = await send(route, JSON.stringify(field.with(value)));

        expectProblem(answer, 400, 'invalid_request');
        expect(answer.body.errors.some((error: Json) => error.pointer.startsWith(pointer))).toBe(true);
      });

      it('is refused: one code point too many is 400', async () => {
        const tooLong = ofLength(field, field.maxLength + 1);

        expectProblem(
          await send(route, JSON.stringify(field.with(tooLong))),
          400,
          'invalid_request',
          pointer,
        );
      });

      if (!field.isClearable) {
        it.each([[null], [''], [' \t\n\u00a0']])('is refused: %j is 400', async (nothing) => {
          const answer = await send(route, JSON.stringify(field.with(nothing)));

          expectProblem(answer, 400, 'invalid_request', pointer);
        });
      }

      if (field.isRequired) {
        it('is refused: leaving it out is 400', async () => {
          const answers = [await send(route, '{}'), await send(route, undefined)];

          for (const answer of answers) expectProblem(answer, 400, 'invalid_request', pointer);
        });
      }
    });
  });

  it.each([
    ['an array', []],
    ['an array of guests', [{ name: 'Ada' }]],
    ['a string', 'Ada'],
    ['a number', 1],
    ['false', false],
  ])('is refused: a guest that is %s is 400', async (_, guest) => {
    const answer = await send(BODIES['POST /v1/chatbots/{id}/sessions']!, JSON.stringify({ guest }));

    expectProblem(answer, 400, 'invalid_request', '/guest');
  });

  it('is refused: an unknown field of a guest is 400', async () => {
    const answer = await send(
      BODIES['POST /v1/chatbots/{id}/sessions']!,
      '{"guest":{"name":"Ada","isOwner":true}}',
    );

    expectProblem(answer, 400, 'invalid_request', '/guest/isOwner');
  });

  it.each([
    ['ada'],
    ['ada@'],
    ['@example.com'],
    ['ada@example'],
    ['ada example@example.com'],
    ['ada@example.com, bob@example.com'],
    ['Ada <ada@example.com>'],
    ['ada@exa\nmple.com'],
  ])('is refused: the e-mail address %j is 400', async (email) => {
    const answer = await send(
      BODIES['POST /v1/chatbots/{id}/sessions']!,
      JSON.stringify({ guest: { email } }),
    );

    expectProblem(answer, 400, 'invalid_request', '/guest/email');
  });

  it.each([
    ['a string', 'fact'],
    ['an object', { 0: 'fact' }],
    ['null', null],
    ['201 items', Array<string>(201).fill('fact')],
  ])('is refused: characteristics that are %s are 400', async (_, characteristics) => {
    const answer = await send(BODIES['POST /v1/chatbots']!, JSON.stringify({ name: 'x', characteristics }));

    expectProblem(answer, 400, 'invalid_request', '/characteristics');
  });

  it.each(Object.entries(BODILESS))('of %s, which takes none, is refused all the same', async (_, route) => {
    expectProblem(await send(route, '{"half'), 400, 'malformed_json');
    expectProblem(await send(route, '{}', { 'content-type': 'text/plain' }), 415, 'unsupported_media_type');
    expectProblem(await send(route, '[]'), 400, 'invalid_request', '');
  });

  it('names every problem that it has', async () => {
    const answer = await send(
      BODIES['POST /v1/chatbots']!,
      JSON.stringify({ name: ' ', greeting: 1, model: 'x'.repeat(256), sender: 'ai' }),
    );

    expectProblem(answer, 400, 'invalid_request');
    expect(answer.body.errors.map((error: Json) => error.pointer).sort()).toEqual([
      '/greeting',
      '/model',
      '/name',
      '/sender',
    ]);
  });

  it('is not looked at before the credential', async () => {
    const withCredential = Object.entries(BODIES).filter(([, route]) => route.token() !== undefined);
    for (const [, route] of withCredential) {
      for (const [body, type] of [
        ['{"half', 'application/json'],
        ['{}', 'text/plain'],
        [`"${'x'.repeat(200_000)}"`, 'application/json'],
      ] as const) {
        for (const token of [undefined, 'garbage']) {
          const answer = await send({ ...route, token: () => token }, body, { 'content-type': type });

          expectProblem(answer, 401, 'unauthorized');
        }
      }
    }
  });

  it.each(
    operations
      .filter(({ method, definition }) => method !== 'GET' && !definition.requestBody)
      .map(({ id, method, route }) => [id, method, route] as const),
  )('that %s did not ask for is refused where it is no JSON object', async (_, method, route) => {
    const path = route.replaceAll(/\{\w+\}/g, () => randomUUID());
    const send = (body: string, type = 'application/json') =>
      callerOf(method, route).request(method, path, { body, headers: { 'content-type': type } });

    expectProblem(await send('{'), 400, 'malformed_json');
    expectProblem(await send('[]'), 400, 'invalid_request');
    expectProblem(await send('{}', 'text/plain'), 415, 'unsupported_media_type');
    expectProblem(await send(`{"a":"${'x'.repeat(128 * 1024)}"}`), 413, 'payload_too_large');
    expectProblem(await send('{}'), 404, 'not_found');
  });

  it('is tested in every field of every route that takes one', () => {
    expect(Object.keys(BODIES).length).toBeGreaterThan(5);
    expect(Object.keys(BODILESS).length).toBeGreaterThan(2);
    for (const { fields } of Object.values(BODIES)) expect(fields).not.toEqual([]);
  });
});

describe('a good body', () => {
  it.each(
    // Who is erased is named by some of the fields, and the answer shows none of them: people.test.ts.
    Object.entries(BODIES).flatMap(([name, route]) =>
      (name === 'POST /v1/erasures' ? [] : route.fields).map(
        (field) => [name, field.pointer, route, field] as const,
      ),
    ),
  )('of %s has %s up to its limit, in code points', async (_name, _pointer, route, field) => {
    const longest = ofLength(field, field.maxLength);

    const answer = await send(route, JSON.stringify(field.with(longest)));

    expect(answer.status).toBe(route.success);
    expect(JSON.stringify(answer.body)).toContain(longest);
  });

  it('may have white space around a name that is as long as it may be', async () => {
    const answer = await send(
      BODIES['POST /v1/chatbots']!,
      JSON.stringify({ name: `  ${EMOJI.repeat(255)}  ` }),
    );

    expect(answer).toMatchObject({ status: 201, body: { name: EMOJI.repeat(255) } });
  });

  it.each([
    ['combining marks', `e${'\u0301'.repeat(1_000)}`],
    ['a right-to-left override', 'abc\u202edef'],
    ['an escape sequence of terminals', '\u001b[31mred\u001b[0m'],
    ['markup', '<script>alert(1)</script>'],
    ['a byte order mark', '\ufeffhello'],
    ['a quote and a backslash', String.raw`it's \ "quoted" $1 %s {name}; drop table chatbots; --`],
    ['noncharacters', '\uffff\ufffe'],
    ['an escaped escape', String.raw`\u0000 \ud800`],
  ])('of a message is kept exactly as sent: %s', async (_, text) => {
    const answer = await send(BODIES['POST /v1/sessions/{id}/messages']!, JSON.stringify({ content: text }));

    expect(answer).toMatchObject({ status: 202, body: { message: { content: text } } });
  });

  it('may name its charset', async () => {
    const answer = await send(BODIES['POST /v1/chatbots']!, '{"name":"Bäckerei"}', {
      'content-encoding': 'identity',
      'content-type': 'application/json; charset=UTF-8',
    });

    expect(answer).toMatchObject({ status: 201, body: { name: 'Bäckerei' } });
  });

  it('of exactly 128 KiB is read', async () => {
    const json = '{"name":"x"}';

    const answer = await send(BODIES['POST /v1/chatbots']!, json + ' '.repeat(128 * 1024 - json.length));

    expect(answer.status).toBe(201);
  });
});

describe('a malformed id', () => {
  const MALFORMED = [
    'abc',
    '0',
    '-1',
    'null',
    '%00',
    '..%2F..%2Fetc',
    "'%20or%201=1--",
    '%F0%9F%98%80',
    '{01a203eb-82fd-76a1-a5fa-4018ce01bf49}',
    '01a203eb82fd76a1a5fa4018ce01bf49',
    '01a203eb-82fd-76a1-a5fa-4018ce01bf4',
    '01a203eb-82fd-76a1-a5fa-4018ce01bf49a',
    '01a203eb-82fd-76a1-a5fa-4018ce01bf4g',
    '01a203eb-82fd-76a1-a5fa-4018ce01bf49%0A',
    'x'.repeat(5_000),
  ];
  /** Broken percent-encoding, and what decodes to bytes that are no text. */
  const UNDECODABLE = ['%', '%zz', '%ff', '%c0%ae', '%ed%a0%80'];

  it('is 404 in any place of any path, as the id of nothing is', async () => {
    const { paths } = createOpenApiDocument(stack.apis[0]!.app);
    const routes = Object.entries(paths)
      .filter(([path]) => path.startsWith('/v1') && path.includes('{'))
      .flatMap(([path, item]) => Object.keys(item).map((method) => ({ method: method.toUpperCase(), path })))
      .filter(
        ({ method, path }) =>
          !ROUTES.find((route) => route.method === method && route.path === path)?.hasPlainErrors,
      );
    expect(routes.length).toBeGreaterThan(15);
    const before = await state();
    const ask = async (method: string, path: string, body = '{}', caller = stack.owner()) => {
      const isRead = method === 'GET' || method === 'DELETE';
      const answer = await caller.request(method, path, {
        headers: { 'x-request-id': 'same', ...(!isRead && { 'content-type': 'application/json' }) },
        ...(!isRead && { body }),
      });
      expectProblem(answer, 404, 'not_found');
      return answer.body;
    };
    for (const { method, path } of routes) {
      const body = JSON.stringify(BODIES[`${method} ${path}`]?.good ?? {});
      const askAbout = (id: () => string) =>
        ask(method, path.replaceAll(/\{\w+\}/g, id), body, callerOf(method, path));
      const nothing = await askAbout(() => randomUUID());
      for (const id of MALFORMED) expect(await askAbout(() => id)).toEqual(nothing);
      for (const id of UNDECODABLE) await askAbout(() => id);
    }
    await ask('DELETE', `/v1/chatbots/${ids['chatbots']}/characteristics/abc`);
    await ask('DELETE', `/v1/chatbots/abc/characteristics/${ids['characteristics']}`);
    expect(await state()).toEqual(before);
  });

  it.each([['/'], ['/v1'], ['/v1/'], ['/v2/chatbots'], ['/v1/nothing'], ['/.env'], ['/%'], ['/%00']])(
    'is no route either: %s is 404',
    async (path) => {
      expectProblem(await stack.owner().get(path), 404, 'not_found');
    },
  );

  it('is a method that a route does not have, too', async () => {
    for (const method of ['PUT', 'DELETE']) {
      expectProblem(await stack.owner().request(method, '/v1/chatbots'), 404, 'not_found');
    }
  });
});

describe('a parameter', () => {
  const lists: [string, () => string][] = [
    ['GET /v1/chatbots', () => '/v1/chatbots'],
    ['GET /v1/chatbots/{id}/characteristics', () => `/v1/chatbots/${ids['chatbots']}/characteristics`],
    ['GET /v1/chatbots/{id}/guests', () => `/v1/chatbots/${ids['chatbots']}/guests`],
    ['GET /v1/chatbots/{id}/sessions', () => `/v1/chatbots/${ids['chatbots']}/sessions`],
    ['GET /v1/guest/sessions', () => '/v1/guest/sessions'],
    ['GET /v1/sessions/{id}/messages', () => `/v1/sessions/${ids['sessions']}/messages`],
  ];
  const forged = (list: string, ...key: unknown[]): string =>
    Buffer.from(
      JSON.stringify([createHash('sha256').update(list).digest('base64url').slice(0, 8), ...key]),
    ).toString('base64url');
  const text = (value: string): string => Buffer.from(value).toString('base64url');

  it('of every list is tested here', () => {
    const { paths } = createOpenApiDocument(stack.apis[0]!.app);
    const paged = Object.entries(paths)
      .filter(([, item]) => JSON.stringify(item.get?.parameters ?? []).includes('"cursor"'))
      .map(([path]) => `GET ${path}`);
    expect(paged.sort()).toEqual(lists.map(([name]) => name).sort());
  });

  describe.each(lists)('of %s', (name, path) => {
    const reader = (): ApiClient => callerOf('GET', name.replace('GET ', ''));

    it.each([
      ['0'],
      ['-1'],
      ['101'],
      ['1000000000'],
      ['1e2'],
      ['1.5'],
      ['%2B1'],
      ['%201'],
      ['abc'],
      [''],
      ['NaN'],
      ['%00'],
      ['%zz'],
      ['١'],
      ['1&limit=2'],
    ])('is refused: limit=%s', async (limit) => {
      expectProblem(await reader().get(`${path()}?limit=${limit}`), 400, 'invalid_request', 'limit');
    });

    it.each([['1'], ['100']])('is taken: limit=%s', async (limit) => {
      expect((await reader().get(`${path()}?limit=${limit}`)).status).toBe(200);
    });

    it.each([
      ['an empty one', ''],
      ['a word', 'abc'],
      ['NUL', '%00'],
      ['broken percent-encoding', '%zz'],
      ['no JSON', text('{')],
      ['null', text('null')],
      ['an object', text('{}')],
      ['an empty list', text('[]')],
      ['a list of nothing', text('[null]')],
      [
        'another list’s mark',
        text('["AAAAAAAA","2026-11-22T12:00:00.000Z","01a203eb-82fd-76a1-a5fa-4018ce01bf49"]'),
      ],
      ['eight thousand letters', 'a'.repeat(8_000)],
    ])('is refused: a cursor that is %s', async (_what, cursor) => {
      expectProblem(await reader().get(`${path()}?cursor=${cursor}`), 400, 'invalid_cursor', 'cursor');
    });

    it('is refused: a cursor that is given twice', async () => {
      const answer = await reader().get(`${path()}?cursor=a&cursor=a`);

      expectProblem(answer, 400, 'invalid_request', 'cursor');
    });
  });

  const ID = '01a203eb-82fd-76a1-a5fa-4018ce01bf49';
  it.each([
    ['a time that is none', ['abc', ID]],
    ['the 31st of February', ['2026-02-31T00:00:00.000Z', ID]],
    ['the 24th hour', ['2026-02-01T24:00:00.000Z', ID]],
    ['the year 0', ['0000-01-01T00:00:00.000Z', ID]],
    ['a year of six digits', ['+010000-01-01T00:00:00.000Z', ID]],
    ['an id that is none', ['2026-02-01T00:00:00.000Z', 'abc']],
    ['an id that is a number', ['2026-02-01T00:00:00.000Z', 1]],
    ['NUL', ['2026-02-01T00:00:00.000Z', '\0']],
    ['a key that is too short', ['2026-02-01T00:00:00.000Z']],
    ['a key that is too long', ['2026-02-01T00:00:00.000Z', ID, ID]],
    ['SQL', ["2026-02-01T00:00:00.000Z' or true --", ID]],
  ])('is refused: a forged cursor with %s', async (_, key) => {
    const cursors: [string, string][] = [
      ['/v1/chatbots', 'chatbots:user_owner'],
      [`/v1/chatbots/${ids['chatbots']}/sessions`, `sessions:${ids['chatbots']}`],
      [`/v1/chatbots/${ids['chatbots']}/characteristics`, `characteristics:${ids['chatbots']}`],
    ];
    for (const [path, list] of cursors) {
      const answer = await stack.owner().get(`${path}?cursor=${forged(list, ...key)}`);

      expectProblem(answer, 400, 'invalid_cursor', 'cursor');
    }
  });

  it.each([[-1], [1.5], [2 ** 31], [1e300], ['1'], [null]])(
    'is refused: a forged cursor of messages with the sequence %j',
    async (sequence) => {
      const cursor = forged(`messages:${ids['sessions']}:asc`, sequence);

      const answer = await stack.owner().get(`/v1/sessions/${ids['sessions']}/messages?cursor=${cursor}`);

      expectProblem(answer, 400, 'invalid_cursor', 'cursor');
    },
  );

  it.each([['up'], [''], ['ASC'], ['asc&order=desc'], ['%00'], ['sequence;drop']])(
    'is refused: order=%s',
    async (order) => {
      const answer = await stack.owner().get(`/v1/sessions/${ids['sessions']}/messages?order=${order}`);

      expectProblem(answer, 400, 'invalid_request', 'order');
    },
  );

  it.each([['-1'], ['31'], ['1e1'], ['0.5'], [''], ['abc'], ['1&wait=1'], ['%00'], ['0x1']])(
    'is refused: wait=%s',
    async (wait) => {
      const answer = await stack.owner().get(`/v1/replies/${ids['replies']}?wait=${wait}`);

      expectProblem(answer, 400, 'invalid_request', 'wait');
    },
  );

  it.each([['0'], ['30']])('is taken: wait=%s', async (wait) => {
    const answer = await stack.owner().get(`/v1/replies/${ids['replies']}?wait=${wait}`);

    expect(answer).toMatchObject({ status: 200, body: { status: 'cancelled' } });
  });

  it.each([['__proto__=1'], ['a[b]=1'], ['x=%zz'], ['limit[]=0'], ['constructor=1']])(
    'is refused where it is unknown: ?%s',
    async (query) => {
      expectProblem(await stack.owner().get(`/v1/chatbots?${query}`), 400, 'invalid_request');
    },
  );
});

describe('X-Request-Id', () => {
  const given = (id: string) =>
    stack.client().request('GET', '/v1/chatbots', { headers: { 'x-request-id': id } });

  it.each([['abc'], ['x'.repeat(128)], ['!~"{}[]']])('is echoed: %s', async (id) => {
    const answer = await given(id);

    expect(answer.headers.get('x-request-id')).toBe(id);
    expect(answer.body.requestId).toBe(id);
  });

  it.each([['x'.repeat(129)], ['with space'], [''], ['tab\tbed'], ['naïve'], ['a, b']])(
    'is minted in place of a bad one: %s',
    async (id) => {
      const answer = await given(id);

      expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
      expect(answer.body.requestId).toBe(answer.headers.get('x-request-id'));
    },
  );

  it('is minted where it is given twice', async () => {
    const requested = httpRequest(`${stack.apis[0]!.url}/v1/chatbots`, {
      headers: { 'x-request-id': ['one', 'two'] }, // which fetch would make one of
    });
    requested.end();
    const [response] = (await once(requested, 'response')) as [IncomingMessage];
    const answer = await json(response);

    expect(response.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(errorsAgainst('/components/schemas/Problem', answer)).toEqual([]);
  });

  it('is on good answers too, each its own', async () => {
    const answers = await Promise.all([stack.owner().get('/v1/chatbots'), stack.owner().get('/v1/chatbots')]);

    const minted = answers.map(({ headers }) => headers.get('x-request-id'));
    for (const id of minted) expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(minted).size).toBe(2);
  });

  it('is on the answer to a path that cannot be decoded', async () => {
    const answer = await stack
      .client()
      .request('GET', '/v1/chatbots/%zz', { headers: { 'x-request-id': 'mine' } });

    expectProblem(answer, 404, 'not_found');
    expect(answer.headers.get('x-request-id')).toBe('mine');
  });
});

describe('a parameter that the route does not know', () => {
  it.each(
    ROUTES.filter(({ hasPlainErrors }) => !hasPlainErrors).map(
      (route) => [`${route.method} ${route.path}`, route] as const,
    ),
  )('is refused by %s, by its name, and changes nothing', async (_name, route) => {
    const { method, path, token } = callable(route);
    const credential = token();
    const client = credential === undefined ? stack.client() : stack.client().as(credential);
    const before = await state();

    for (const [query, pointer] of [
      ['e-mail=ada%40example.com', 'e-mail'],
      ['Limit=1', 'Limit'],
      ['=', ''],
      ['__proto__=1', '__proto__'],
      [`${'x'.repeat(5_000)}=1`, 'x'.repeat(100)],
      [Array.from({ length: 200 }, (_, index) => `p${index}`).join('&'), 'p0'],
    ] as const) {
      const answer = await client.request(method, `${path()}?${query}`, {
        ...(method !== 'GET' && { headers: { 'content-type': 'application/json' }, body: '{}' }),
      });
      expectProblem(answer, 400, 'invalid_request', pointer);
      expect(answer.body.errors.length).toBeLessThanOrEqual(20);
    }
    expect(await state()).toEqual(before);
  });

  it('does not hide one that it does', async () => {
    const answer = await stack.owner().get('/v1/chatbots?limit=1&page=2');
    expectProblem(answer, 400, 'invalid_request', 'page');
    expect((await stack.owner().get('/v1/chatbots?limit=1')).status).toBe(200);
  });

  it('is a missing credential’s problem first', async () => {
    expect((await stack.client().get('/v1/chatbots?page=2')).status).toBe(401);
  });

  it('is none of the routes of operators', async () => {
    expect((await stack.client().get('/health/live?probe=1')).status).toBe(200);
  });
});
