import { generateKeyPairSync } from 'node:crypto';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ApiClient, type Json } from '../support/api-client.js';
import { checkedFetch } from '../support/contract.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { signLocalOwnerToken } from '../support/product.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

const GOOD = 'https://good.com';

let stack: Stack;
let url: string;
beforeAll(async () => {
  stack = await Stack.start({
    workers: 0,
    env: {
      CORS_ORIGINS: `${GOOD}, http://localhost:5173`,
    },
  });
  url = stack.apis[0]!.url;
});
afterAll(() => stack.stop());

const headersOf = async (path: string, init: RequestInit = {}): Promise<Headers> => {
  const response = await checkedFetch(url + path, init);
  await response.text();
  return response.headers;
};

describe('a page from another origin', () => {
  it.each([[GOOD], ['http://localhost:5173']])(
    'may read the answers, if it is one of ours: %s',
    async (origin) => {
      const headers = await headersOf('/v1/chatbots', { headers: { origin } });

      expect(headers.get('access-control-allow-origin')).toBe(origin);
      expect(headers.get('vary')).toMatch(/\bOrigin\b/);
      expect(headers.get('access-control-allow-credentials')).toBeNull();
    },
  );

  it.each([
    ['null'],
    ['https://good.com.evil.com'],
    ['https://evilgood.com'],
    ['https://evil.com/https://good.com'],
    ['http://good.com'],
    ['https://good.com:8443'],
    ['https://good.com:443'],
    ['https://GOOD.com'],
    ['https://good.com/'],
    ['https://www.good.com'],
    ['http://localhost:5174'],
    ['https://good.com, https://evil.com'],
    ['*'],
  ])('may not, if its origin only looks like one of ours: %s', async (origin) => {
    const headers = await headersOf('/v1/chatbots', { headers: { origin } });

    expect(headers.get('access-control-allow-origin')).toBeNull();
    expect(headers.get('vary')).toMatch(/\bOrigin\b/); // or a cache would give it the answer for another
  });

  it('is told nothing where the caller names no origin', async () => {
    const headers = await headersOf('/v1/chatbots');

    expect(headers.get('access-control-allow-origin')).toBeNull();
    expect(headers.get('vary')).toMatch(/\bOrigin\b/);
  });

  it('may read the headers that the contract names', async () => {
    const headers = await headersOf('/v1/chatbots', { headers: { origin: GOOD } });

    const exposed = (headers.get('access-control-expose-headers') ?? '').split(/\s*,\s*/);
    expect(exposed).toEqual(
      expect.arrayContaining([
        'X-Request-Id',
        'X-Event-Cursor',
        'Location',
        'Retry-After',
        'Idempotency-Replayed',
      ]),
    );
  });

  it('may send what it needs: a preflight allows the methods and the headers', async () => {
    const response = await checkedFetch(`${url}/v1/chatbots`, {
      method: 'OPTIONS',
      headers: {
        origin: GOOD,
        'access-control-request-method': 'PATCH',
        'access-control-request-headers': 'authorization,content-type,idempotency-key,last-event-id',
      },
    });

    expect(response.status).toBe(204);
    expect(response.headers.get('access-control-allow-origin')).toBe(GOOD);
    const allowed = (name: string): string[] =>
      (response.headers.get(name) ?? '').toLowerCase().split(/\s*,\s*/);
    expect(allowed('access-control-allow-methods')).toEqual(
      expect.arrayContaining(['get', 'post', 'patch', 'delete']),
    );
    expect(allowed('access-control-allow-headers')).toEqual(
      expect.arrayContaining(['authorization', 'content-type', 'idempotency-key', 'last-event-id']),
    );
    expect(Number(response.headers.get('access-control-max-age'))).toBeGreaterThan(0);
    expect(response.headers.get('x-request-id')).toEqual(expect.any(String));
  });

  it('is allowed nothing by the preflight of another', async () => {
    const headers = await headersOf('/v1/chatbots', {
      method: 'OPTIONS',
      headers: { origin: 'https://evil.com', 'access-control-request-method': 'POST' },
    });

    expect(headers.get('access-control-allow-origin')).toBeNull();
  });

  it('may follow events, and read errors, like anything else', async () => {
    const { session, token } = await stack.client().openSession((await stack.owner().createChatbot()).id);
    const response = await checkedFetch(`${url}/v1/sessions/${session.id}/events`, {
      headers: { origin: GOOD, authorization: `Bearer ${token}` },
    });

    expect(response.status).toBe(200);
    expect(response.headers.get('access-control-allow-origin')).toBe(GOOD);
    await response.body?.cancel();
    const missing = await headersOf('/v1/%zz', { headers: { origin: GOOD } });
    expect(missing.get('access-control-allow-origin')).toBe(GOOD);
  });

  it('may read nothing where no origins are configured', async () => {
    const closed = await stack.addApi({ CORS_ORIGINS: '' });

    const response = await checkedFetch(`${closed.url}/v1/chatbots`, { headers: { origin: GOOD } });

    expect(response.headers.get('access-control-allow-origin')).toBeNull();
  });
});

describe('every answer of the API', () => {
  it.each([
    ['/v1/chatbots'],
    ['/v1/nothing'],
    ['/v1/%zz'],
    ['/openapi.json'],
    ['/health/live'],
    ['/health/ready'],
    ['/metrics'],
    ['/'],
    ['/nothing'],
  ])('tells browsers to run and frame nothing of it, also %s', async (path) => {
    const headers = await headersOf(path);

    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('content-security-policy')).toBe("default-src 'none';frame-ancestors 'none'");
    expect(headers.get('x-frame-options')).toMatch(/DENY|SAMEORIGIN/);
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('strict-transport-security')).toMatch(/max-age=\d+/);
  });

  it.each([
    ['/v1/chatbots'],
    ['/v1/nothing'],
    ['/openapi.json'],
    ['/docs'],
    ['/admin/queues'],
    ['/health/live'],
    ['/'],
  ])('names no software, and has a request id: %s', async (path) => {
    const headers = await headersOf(path);

    expect(headers.get('x-powered-by')).toBeNull();
    expect(headers.get('server')).toBeNull();
    expect(headers.get('x-request-id')).toEqual(expect.any(String));
  });

  it('holds no stack trace, SQL or path where something cannot be found', async () => {
    for (const path of ['/v1/nothing', '/v1/%zz', '/v1/chatbots/%00', "/v1/chatbots?cursor='", '/%']) {
      const text = await (
        await checkedFetch(url + path, { headers: { authorization: `Bearer ${stack.ownerToken()}` } })
      ).text();

      expect(text).not.toMatch(/\bat \S+:\d+|node_modules|\bselect\b|\/work\/|\.[jt]s\b/i);
    }
  });
});

describe('the OpenAPI document', () => {
  let document: Json;
  beforeAll(async () => {
    const response = await checkedFetch(`${url}/openapi.json`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^application\/json/);
    document = await response.json();
  });
  const operations = (): { name: string; path: string; operation: Json }[] =>
    Object.entries<Json>(document.paths).flatMap(([path, item]) =>
      Object.entries<Json>(item).map(([method, operation]) => ({
        name: `${method.toUpperCase()} ${path}`,
        path,
        operation,
      })),
    );

  it('lists every route of the API and of its health, and none that there is not', () => {
    const { router } = stack.apis[0]!.app.getHttpAdapter().getInstance();
    const routes = (router.stack as { route?: { path: string; methods: Record<string, boolean> } }[])
      .flatMap(({ route }) =>
        route ? Object.keys(route.methods).map((method) => `${method.toUpperCase()} ${route.path}`) : [],
      )
      // What Clerk calls, its operators set up: deploy/production.md.
      .filter((route) => / \/(v1(?!\/webhooks)|health)\b/.test(route) && !route.startsWith('HEAD'))
      .map((route) => route.replaceAll(/:(\w+)/g, '{$1}'));
    const listed = operations()
      .map(({ name }) => name)
      .filter((name) => / \/(v1|health)\b/.test(name));

    expect(listed.sort()).toEqual(routes.sort());
  });

  it('gives every operation a name of its own, a summary, a tag, and a good answer', () => {
    const ids = operations().map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { name, operation } of operations()) {
      expect([name, operation]).toEqual([
        name,
        expect.objectContaining({
          operationId: expect.stringMatching(/^[a-z][A-Za-z]+$/),
          summary: expect.stringMatching(/./),
          tags: [expect.any(String)],
        }),
      ]);
      expect([name, Object.keys(operation.responses)]).toEqual([
        name,
        expect.arrayContaining([expect.stringMatching(/^2\d\d$/)]),
      ]);
    }
  });

  it('declares each parameter of a path, and each body as JSON', () => {
    for (const { name, path, operation } of operations()) {
      const declared = (operation.parameters ?? [])
        .filter((parameter: Json) => parameter.in === 'path')
        .map((parameter: Json) => parameter.name);
      expect([name, declared.sort()]).toEqual([
        name,
        [...path.matchAll(/\{(\w+)\}/g)].map((match) => String(match[1])).sort(),
      ]);
      if (operation.requestBody) {
        expect([name, Object.keys(operation.requestBody.content)]).toEqual([name, ['application/json']]);
      }
    }
  });

  /** Whether it may be called without a credential; with one, it may tell more. */
  const isOpen = ({ security }: Json): boolean =>
    security.length === 0 || security.some((scheme: object) => Object.keys(scheme).length === 0);

  it('documents a credential and a 401 for every route but the public ones', () => {
    const open: string[] = operations()
      .filter(({ operation }) => isOpen(operation))
      .map(({ operation }) => operation.operationId);
    expect(open.filter((id) => !/^get(Liveness|Readiness|Metrics)$/.test(id)).sort()).toEqual([
      'getPublicChatbot',
      'openSession',
    ]);
    for (const { name, operation } of operations()) {
      if (isOpen(operation)) continue;
      expect([name, operation.responses]).toEqual([
        name,
        expect.objectContaining({ 401: expect.anything() }),
      ]);
      for (const scheme of operation.security.flatMap(Object.keys)) {
        expect(document.components.securitySchemes).toHaveProperty(scheme);
      }
    }
  });

  it('has no reference that leads nowhere', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map((match) => match[1]!);
    expect(references.length).toBeGreaterThan(10);
    for (const reference of references) {
      const target = reference
        .replace(/^#\//, '')
        .split('/')
        .reduce<Json>((at, key) => at?.[key], document);
      expect([reference, typeof target]).toEqual([reference, 'object']);
    }
  });

  it('lists the codes that errors have', async () => {
    const codes: string[] = document.components.schemas.Problem.properties.code.enum;

    expect(codes).toEqual(
      expect.arrayContaining([
        'invalid_request',
        'malformed_json',
        'unauthorized',
        'not_found',
        'internal_error',
      ]),
    );
  });

  it('is shown as pages at /docs', async () => {
    const response = await checkedFetch(`${url}/docs`);

    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^text\/html/);
    expect(await response.text()).toContain('<title>Assistly API</title>');
  });
});

describe('the documentation', () => {
  it('comes without what only its makers need', async () => {
    const html = await (await checkedFetch(`${url}/docs`)).text();
    const assets = [...html.matchAll(/docs\/assets\/[\w.-]+\.(?:js|css)/g)].map(([path]) => path);
    expect(assets).toHaveLength(4);
    for (const path of assets) {
      expect((await checkedFetch(`${url}/${path}`)).status).toBe(200);
      expect((await checkedFetch(`${url}/${path}.map`)).status).toBe(404);
    }
  });

  it('is off in production, unless it is switched on', async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const production = {
      NODE_ENV: 'production',
      CLERK_JWT_KEY: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    };
    const [off, on] = [
      await stack.addApi(production),
      await stack.addApi({ ...production, DOCS_IN_PRODUCTION: 'true' }),
    ];

    const html = await (await checkedFetch(`${url}/docs`)).text();
    const [asset] = /\/?docs\/assets\/docs-\w+\.js/.exec(html)!;
    for (const path of ['/docs', `/${asset}`, '/openapi.json']) {
      expect((await checkedFetch(off.url + path)).status).toBe(404);
      expect((await checkedFetch(on.url + path)).status).toBe(200);
    }
  });
});

describe('health', () => {
  it.each([['live'], ['ready']])('%s answers 200 to anybody', async (check) => {
    const answer = await waitFor('the process to be ready', async () => {
      const got = await stack.client().get(`/health/${check}`);
      return got.status === 200 ? got : null;
    });

    expect(answer.body).toEqual({ status: 'ok' });
  });
});

describe('the log', () => {
  let database: TestDatabase;
  let directory: string;
  let child: ChildProcess;
  let output = '';
  beforeAll(async () => {
    database = await createTestDatabase();
    directory = await mkdtemp(join(tmpdir(), 'assistly-log-'));
    child = spawn(process.execPath, [resolve('dist/src/main.js')], {
      cwd: directory,
      env: {
        PATH: process.env['PATH'],
        PORT: '0',
        DATABASE_URL: database.url,
        LOG_LEVEL: 'debug',
        ...(stack.redisPrefix !== undefined && {
          REDIS_URL: process.env['ASSISTLY_TEST_REDIS_URL'],
          REDIS_PREFIX: `${stack.redisPrefix}-log`,
        }),
        BULL_BOARD_USER: 'operator',
        BULL_BOARD_PASSWORD: 'canary-password',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const take = (chunk: Buffer): void => void (output += chunk.toString());
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    await waitFor(
      'the process to start',
      () => {
        if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${output}`);
        return output.includes('Stop with Ctrl-C');
      },
      { timeoutMs: 40_000 },
    );
  });
  afterAll(async () => {
    if (child.exitCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await database.drop();
    await rm(directory, { recursive: true, force: true });
  });

  it('tells of requests and replies by their ids, and nothing that people wrote, nor a credential', async () => {
    const baseUrl = /API +(http:\/\/\S+)\/v1/.exec(output)?.[1] ?? '';
    const ownerToken = signLocalOwnerToken(join(directory, '.assistly'), 'user_logged');
    const client = new ApiClient(baseUrl);
    const owner = client.as(ownerToken);
    output = ''; // the welcome shows tokens and the password, as it should
    const chatbot = await owner.createChatbot({
      name: 'canary-name',
      greeting: 'canary-greeting',
      characteristics: ['canary-fact'],
    });
    const opened = await client.openSession(chatbot.id, {
      guest: { name: 'canary-guest', email: 'canary@example.com' },
    });
    const { guest, session, token } = opened;
    const { body: events } = await guest.post(`/v1/sessions/${session.id}/events/token`);
    const stream = await client.follow(session.id, { eventToken: events.token }).opened();
    const answer = await guest.post(
      `/v1/sessions/${session.id}/messages`,
      { content: 'canary-message canary-fact?' },
      { 'x-request-id': 'request-of-the-message' },
    );
    await stream.next('reply.completed', answer.body.reply.id);
    await stream.close();
    // What fails is logged too: bad bodies, bad credentials, credentials in the wrong place.
    await guest.post(`/v1/sessions/${session.id}/messages`, { content: 'canary-message\0' });
    await guest.request('POST', `/v1/sessions/${session.id}/messages`, {
      headers: { 'content-type': 'application/json' },
      body: '{"content":"canary-message',
    });
    for (const query of [
      `token=${token}`,
      `access_token=${ownerToken}`,
      `TOKEN=${events.token}`,
      `%74oken=${events.token}`,
      `x=1&token=${events.token}`,
    ]) {
      const response = await checkedFetch(`${baseUrl}/v1/sessions/${session.id}/events?${query}`);
      await response.body?.cancel();
    }
    await checkedFetch(`${baseUrl}/admin/queues`, {
      headers: { authorization: `Basic ${Buffer.from('operator:canary-password').toString('base64')}` },
    });
    await owner.delete(`/v1/guests/${session.guest.id}`);
    await waitFor('the last line', () => output.includes(`/v1/guests/${session.guest.id}`));

    const lines = output
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line): Json => JSON.parse(line));
    expect(output).not.toMatch(/canary/i);
    for (const secret of [token, events.token, ownerToken]) {
      expect(output.includes(secret.slice(-20))).toBe(false);
    }
    const posted = lines.find(({ requestId, req }) => requestId === 'request-of-the-message' && req);
    expect(posted).toMatchObject({
      req: { method: 'POST', url: `/v1/sessions/${session.id}/messages` },
      res: { status: 202 },
    });
    const attempted = lines.find(({ replyId, outcome }) => replyId === answer.body.reply.id && outcome);
    expect(attempted).toMatchObject({
      outcome: 'completed',
      sessionId: session.id,
      requestId: 'request-of-the-message',
    });
  });

  it('is followed by exit code 0 when the process is asked to stop', async () => {
    child.kill('SIGTERM');

    const [code] = await once(child, 'exit');

    expect(code).toBe(0);
  });
});
