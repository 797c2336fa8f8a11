import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { request as httpRequest } from 'node:http';
import type { Json } from '../support/api-client.js';
import { ROUTES } from '../support/routes.js';
import { Stack } from '../support/stack.js';
import { startTcpProxy } from '../support/tcp-proxy.js';

/** Whose pages may do what, on every route, with every credential. */

const OWNERS_PAGE = 'https://app.example.com';
const GUESTS_PAGE = 'https://www.shop.example';
const STRANGE = 'https://evil.example';

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    workers: 0,
    env: { CORS_ORIGINS: `${OWNERS_PAGE},https://*.owners.example`, TRUST_PROXY: 'loopback' },
  });
});
afterAll(() => stack.stop());

interface Answer {
  status: number;
  code: string | undefined;
  /** The origin that may read it. */
  readable: string | undefined;
}

/** Sent by hand, since `fetch` decides about Host by itself. */
function send(
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: object,
  at = stack.apis[0]!.url,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      at + path,
      { method, headers: { ...(body && { 'content-type': 'application/json' }), ...headers } },
      (response) => {
        let text = '';
        const done = (): void => {
          const { code } = (text.startsWith('{') ? JSON.parse(text) : {}) as { code?: string };
          resolve({
            status: response.statusCode!,
            code,
            readable: response.headers['access-control-allow-origin'],
          });
        };
        if (String(response.headers['content-type']).startsWith('text/event-stream')) {
          done();
          response.destroy();
          return;
        }
        response.on('data', (data) => (text += String(data)));
        response.on('end', done);
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body && JSON.stringify(body));
  });
}

const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });

async function chatbotFor(allowedOrigins?: string[]): Promise<{ id: string; session: Json; token: string }> {
  const { id } = await stack
    .owner()
    .createChatbot({ name: 'Shop', ...(allowedOrigins && { allowedOrigins }) });
  const { session, token } = await stack.client().openSession(id);
  return { id, session, token };
}

describe('a guest’s page', () => {
  const NONE = undefined;

  it.each<[string[], string | undefined, boolean]>([
    [[], GUESTS_PAGE, true],
    [[], 'null', true],
    [[], NONE, true],
    [[GUESTS_PAGE], GUESTS_PAGE, true],
    [[GUESTS_PAGE], NONE, true],
    [[GUESTS_PAGE], 'null', false],
    [[GUESTS_PAGE], STRANGE, false],
    [[GUESTS_PAGE], OWNERS_PAGE, false],
    [[GUESTS_PAGE], `${GUESTS_PAGE}:8443`, false],
    [[GUESTS_PAGE], 'http://www.shop.example', false],
    [[GUESTS_PAGE], `${GUESTS_PAGE}.evil.example`, false],
    [['https://*.shop.example'], 'https://a.shop.example', true],
    [['https://*.shop.example'], 'https://a.b.c.shop.example', true],
    [['https://*.shop.example'], 'https://shop.example', false],
    [['https://*.shop.example'], 'http://a.shop.example', false],
    [['https://*.shop.example'], 'https://a.shop.example:8443', false],
    [['https://*.shop.example'], 'https://evilshop.example', false],
    [['https://*.shop.example'], 'https://evil.example/.shop.example', false],
    [['https://*.shop.example'], 'https://evil.example#.shop.example', false],
    [['https://*.shop.example'], 'https://..shop.example', false],
    [['https://*.shop.example', 'http://localhost:5173'], 'http://localhost:5173', true],
  ])('of a chatbot that allows %j, from %s: %s', async (allowedOrigins, origin, isAllowed) => {
    const { id, session, token } = await chatbotFor(allowedOrigins);
    const headers = { ...(origin !== undefined && { origin }) };
    const asGuest = { ...headers, ...bearer(token) };

    const answers = [
      await send('GET', `/v1/chatbots/${id}/public`, headers),
      await send('POST', `/v1/chatbots/${id}/sessions`, headers, {}),
      await send('GET', `/v1/sessions/${session.id}`, asGuest),
      await send('POST', `/v1/sessions/${session.id}/messages`, asGuest, { content: 'Hello' }),
      await send('GET', `/v1/sessions/${session.id}/events`, asGuest),
    ];

    expect(answers.map(({ status }) => status)).toEqual(
      isAllowed ? [200, 201, 200, 202, 200] : [403, 403, 403, 403, 403],
    );
    for (const { code, readable } of answers) {
      expect(code).toBe(isAllowed ? undefined : 'origin_not_allowed');
      expect(readable).toBe(origin); // a refusal can be read, too
    }
  });

  it('of the chatbot’s list alone follows with a token in the URL', async () => {
    const { session, token } = await chatbotFor([GUESTS_PAGE]);
    const { body } = await stack
      .client()
      .as(token)
      .post<{ token: string }>(`/v1/sessions/${session.id}/events/token`);
    const path = `/v1/sessions/${session.id}/events?token=${body.token}`;

    expect((await send('GET', path, { origin: GUESTS_PAGE })).status).toBe(200);
    expect((await send('GET', path, { origin: STRANGE })).code).toBe('origin_not_allowed');
  });

  it('may do from the next request on what the owner allows now', async () => {
    const { id, session, token } = await chatbotFor([GUESTS_PAGE]);
    const ask = (): Promise<Answer> =>
      send('GET', `/v1/sessions/${session.id}`, { origin: STRANGE, ...bearer(token) });
    expect((await ask()).status).toBe(403);

    await stack.owner().patch(`/v1/chatbots/${id}`, { allowedOrigins: [STRANGE] });
    expect((await ask()).status).toBe(200);
    await stack.owner().patch(`/v1/chatbots/${id}`, { allowedOrigins: [] });

    expect((await ask()).status).toBe(200);
    expect((await stack.owner().get(`/v1/chatbots/${id}`)).body.allowedOrigins).toEqual([]);
  });

  it('finds that there is no such chatbot, and gets no other answer than others', async () => {
    for (const id of ['01a203eb-82fd-76a1-a5fa-4018ce01bf49', 'nothing', 'x'.repeat(300)]) {
      expect(await send('GET', `/v1/chatbots/${id}/public`, { origin: STRANGE })).toMatchObject({
        status: 404,
        readable: STRANGE,
      });
    }
  });
});

describe('an owner’s page', () => {
  it.each([
    [OWNERS_PAGE, true],
    ['https://one.owners.example', true],
    ['https://owners.example', false],
    [GUESTS_PAGE, false],
    ['null', false],
  ])('from %s, on routes of its own and on those that it shares: %s', async (origin, isAllowed) => {
    const { id, session } = await chatbotFor([GUESTS_PAGE]);
    const headers = { origin, ...bearer(stack.ownerToken()) };

    const own = await send('GET', `/v1/chatbots/${id}`, headers);
    const shared = await send('GET', `/v1/sessions/${session.id}`, headers);

    expect([own.status, shared.status]).toEqual(isAllowed ? [200, 200] : [403, 403]);
    expect(own.readable).toBe(isAllowed ? origin : undefined);
    expect(shared.readable).toBe(origin);
  });

  it('is told about its token first', async () => {
    expect((await send('GET', '/v1/chatbots', { origin: STRANGE, ...bearer('nonsense') })).status).toBe(401);
  });
});

describe('a page of the api’s own', () => {
  it.each([
    ['the host that the request names', {}, 'http://chat.example.com'],
    ['as the proxy in front was asked', { 'x-forwarded-proto': 'https' }, 'https://chat.example.com'],
    [
      'also where it changes the host',
      { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'public.example.com' },
      'https://public.example.com',
    ],
  ])('is known by %s', async (_, headers, origin) => {
    const { session, token } = await chatbotFor([GUESTS_PAGE]);
    const own = { host: 'chat.example.com', origin, ...headers };

    expect((await send('GET', `/v1/sessions/${session.id}`, { ...own, ...bearer(token) })).status).toBe(200);
    const owners = await send('GET', '/v1/chatbots', { ...own, ...bearer(stack.ownerToken()) });
    expect(owners).toMatchObject({ status: 200, readable: origin });
    const other = { ...own, origin: 'https://other.example.com', ...bearer(token) };
    expect((await send('GET', `/v1/sessions/${session.id}`, other)).status).toBe(403);
  });

  it('is known by PUBLIC_URL alone where that is set', async () => {
    const { url } = await stack.addApi({ PUBLIC_URL: 'https://chat.example.com/some/where' });
    const { session, token } = await chatbotFor([GUESTS_PAGE]);
    const ask = (origin: string): Promise<Answer> =>
      send('GET', `/v1/sessions/${session.id}`, { origin, ...bearer(token) }, undefined, url);

    expect((await ask('https://chat.example.com')).status).toBe(200);
    expect((await ask(url)).status).toBe(403);
  });
});

describe('a preflight', () => {
  const preflight = (path: string, origin: string, method: string): Promise<Answer> =>
    send('OPTIONS', path, { origin, 'access-control-request-method': method });

  const guestPaths = new Set(
    ROUTES.filter(({ callers }) => callers.some((caller) => caller !== 'owner')).map(({ path }) => path),
  );

  it.each(ROUTES.map(({ method, path }) => [method, path]))(
    'is answered by the path alone: %s %s',
    async (method, route) => {
      // Of no session and no chatbot, which it must not look for.
      const path = route.replaceAll(/\{\w+\}/g, '01a203eb-82fd-76a1-a5fa-4018ce01bf49');
      const isForGuests = guestPaths.has(route);

      expect(await preflight(path, STRANGE, method)).toMatchObject({
        status: 204,
        readable: isForGuests ? STRANGE : undefined,
      });
      expect(await preflight(`${path}/`, OWNERS_PAGE, method)).toMatchObject({
        status: 204,
        readable: OWNERS_PAGE,
      });
    },
  );

  it('needs no database', async () => {
    const { id } = await chatbotFor([GUESTS_PAGE]);
    const network = await startTcpProxy(stack.database.url);
    const { url } = await stack.addApi({ DATABASE_URL: network.url });
    network.refuse(true);
    network.cut();
    const ask = (method: string, headers: Record<string, string>): Promise<Answer> =>
      send(method, `/v1/chatbots/${id}/public`, { origin: STRANGE, ...headers }, undefined, url);

    expect((await ask('GET', {})).status).toBe(503);
    expect((await ask('OPTIONS', { 'access-control-request-method': 'GET' })).status).toBe(204);
    await network.close();
  });
});

describe('the origins that a chatbot allows', () => {
  it.each<[unknown, RegExp]>([
    [['https://shop.example/'], /written as browsers send it: https:\/\/shop\.example$/],
    [['https://SHOP.example'], /written as browsers send it: https:\/\/shop\.example$/],
    [['https://shop.example:443'], /written as browsers send it/],
    [['https://bücher.example'], /written as browsers send it: https:\/\/xn--bcher-kva\.example$/],
    [['https://shop.example/path'], /scheme, host and port/],
    [['https://user@shop.example'], /scheme, host and port/],
    [['shop.example'], /scheme, host and port/],
    [['*'], /scheme, host and port/],
    [['null'], /scheme, host and port/],
    [['https://*'], /scheme, host and port/],
    [['https://*.'], /scheme, host and port/],
    [['https://*.shop.example:8443'], /scheme, host and port/],
    [['http://*.shop.example'], /scheme, host and port/],
    [['https://a.*.shop.example'], /scheme, host and port/],
    [['https://*.*.shop.example'], /scheme, host and port/],
    [['ftp://shop.example'], /scheme, host and port/],
    [['javascript:alert(1)'], /scheme, host and port/],
    [['https://fine.example', ''], /^item 1 must be/],
    [[7], /must be a string/],
    [[null], /must be a string/],
    [[`https://${'x'.repeat(300)}.example`], /at most 270/],
    ['https://shop.example', /must be a list/],
    [null, /must be a list/],
    [{}, /must be a list/],
    [Array.from({ length: 51 }, (_, n) => `https://n${n}.example`), /at most 50/],
  ])('cannot be %j', async (allowedOrigins, message) => {
    const { status, body } = await stack.owner().post('/v1/chatbots', { name: 'Shop', allowedOrigins });

    expect(status).toBe(400);
    expect(body.errors).toEqual([{ pointer: '/allowedOrigins', message: expect.stringMatching(message) }]);
  });

  it('are kept as they are given, and shown to the owner alone', async () => {
    const allowedOrigins = [
      'https://*.shop.example',
      'http://localhost:5173',
      'http://[::1]:8080',
      GUESTS_PAGE,
    ];
    const { id } = await chatbotFor(allowedOrigins);

    const chatbot = await stack.owner().get(`/v1/chatbots/${id}`);
    expect(chatbot.body.allowedOrigins).toEqual(allowedOrigins);
    expect((await stack.client().get(`/v1/chatbots/${id}/public`)).body).not.toHaveProperty('allowedOrigins');
  });
});
