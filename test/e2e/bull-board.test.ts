import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  askCanaryToTheEnd,
  board,
  jobOf,
  OPERATOR,
  OPERATOR_HEADER,
  sendRaw,
  stateOf,
  untilJobIs,
} from '../support/queue-board.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';

/** What the board does with the jobs of either store. Who may see it, and what it looks like: test/api/bull-board. */
let provider: RawProvider;
let stack: Stack;
let url: string;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      BULL_BOARD_USER: OPERATOR.user,
      BULL_BOARD_PASSWORD: OPERATOR.password,
      CORS_ORIGINS: '*',
    },
  });
  url = stack.apis[0]!.url;
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

describe('the operator', () => {
  let completed: string;
  let failed: string;
  beforeAll(async () => {
    completed = jobOf(await askCanaryToTheEnd(stack, 'ok'));
    failed = jobOf(await askCanaryToTheEnd(stack, 'quota'));
    await untilJobIs(stack, completed, 'completed');
    await untilJobIs(stack, failed, 'failed');
  });

  it.each([
    ['PUT', '/queues/pause'],
    ['PUT', '/queues/resume'],
    ['PUT', '/queues/replies/pause'],
    ['PUT', '/queues/replies/resume'],
    ['PUT', '/queues/replies/empty'],
    ['PUT', '/queues/replies/obliterate'],
    ['PUT', '/queues/replies/concurrency'],
    ['PUT', '/queues/replies/rate-limit'],
    ['PUT', '/queues/replies/rate-limit/release'],
    ['PUT', '/queues/replies/clean/failed'],
    ['PUT', '/queues/replies/clean/completed'],
    ['PUT', '/queues/replies/retry/failed'],
    ['PUT', '/queues/replies/retry/completed'],
    ['PUT', '/queues/replies/promote'],
    ['POST', '/queues/replies/add'],
    ['PUT', '/queues/replies/FAILED/clean'],
    ['PUT', '/queues/replies/COMPLETED/retry'],
    ['PATCH', '/queues/replies/FAILED/update-data'],
    ['PATCH', '/queues/replies/FAILED/delay'],
    ['PATCH', '/queues/replies/FAILED/priority'],
    ['PUT', '/queues/replies/FAILED/remove-unprocessed-children'],
  ])('changes nothing but by enqueueing again: %s %s is refused', async (method, path) => {
    const before = await board(stack, '/queues?activeQueue=replies');

    const answer = await board(stack, path.replace('FAILED', failed).replace('COMPLETED', completed), {
      method,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'generate', data: {}, options: {}, concurrency: 1, max: 1, duration: 1 }),
    });

    expect(answer.status).toBe(403);
    expect(answer.body).toMatchObject({ error: { key: 'ERRORS.FORBIDDEN' } });
    expect((await board(stack, '/queues?activeQueue=replies')).body).toEqual(before.body);
  });

  it('is told nothing of the store behind the queue', async () => {
    expect((await board(stack, '/redis/stats')).status).toBe(403);
  });

  it('enqueues nothing where there is no such job, or no such queue', async () => {
    for (const path of ['/queues/replies/r-nothing-1/retry', '/queues/nothing/r-nothing-1/promote']) {
      expect((await board(stack, path, { method: 'PUT' })).status).toBe(404);
    }
  });

  it.each([
    [{ 'sec-fetch-site': 'cross-site' }],
    [{ 'sec-fetch-site': 'same-site' }],
    [{ 'sec-fetch-site': 'none' }],
    [{ 'sec-fetch-site': 'cross-site', origin: 'http://127.0.0.1' }],
    [{ origin: 'https://evil.example' }],
    [{ origin: 'null' }],
    [{ origin: '' }],
  ])('is not made to act by a page from elsewhere: %p', async (headers) => {
    const { pathname } = new URL(`${url}/admin/queues/api/queues/replies/${failed}/retry`);
    const answer = await sendRaw(url, 'PUT', pathname, { authorization: OPERATOR_HEADER, ...headers });

    expect(answer.status).toBe(403);
    expect(await stateOf(stack, failed)).toBe('failed');
  });

  it('acts from the board itself, and from a program', async () => {
    const path = `/queues/replies/${failed}/retry`;
    const own = await board(stack, path, { method: 'PUT', headers: { origin: url } });
    expect(own.status).toBe(204);
    await untilJobIs(stack, failed, 'completed');

    expect((await board(stack, path, { method: 'PUT' })).status).toBe(403); // it is completed by now
  });

  it('gets pages that nothing from elsewhere gets into, and that nobody frames, reads or keeps', async () => {
    for (const path of ['', '/queue/replies', '/static/images/logo.svg', '/api/queues']) {
      for (const authorization of [OPERATOR_HEADER, 'none']) {
        const response = await fetch(`${url}/admin/queues${path}`, {
          headers: { authorization, origin: 'https://elsewhere.example' },
        });
        const text = await response.text();

        expect(response.status).toBe(authorization === 'none' ? 401 : 200);
        const policy = response.headers.get('content-security-policy')?.split(';');
        expect(policy).toEqual(
          expect.arrayContaining(["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"]),
        );
        expect(response.headers.get('x-frame-options')).toBe('DENY');
        expect(response.headers.get('x-content-type-options')).toBe('nosniff');
        expect(response.headers.get('referrer-policy')).toBe('no-referrer');
        expect(response.headers.get('cache-control')).toBe('no-store');
        expect(response.headers.get('x-powered-by')).toBeNull();
        expect(response.headers.get('access-control-allow-origin')).toBeNull();
        expect(text).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
      }
    }
  });
});
