import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ProductLog } from '../support/product-log.js';
import { basic, OPERATOR, OPERATOR_HEADER } from '../support/queue-board.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** Who tries passwords of the operator. */

let stack: Stack;
let log: ProductLog;
beforeAll(async () => {
  stack = await Stack.start({
    workers: 0,
    apis: 2,
    env: {
      LIMITS_ENABLED: 'true',
      TRUST_PROXY: '1',
      BULL_BOARD_USER: OPERATOR.user,
      BULL_BOARD_PASSWORD: OPERATOR.password,
    },
  });
  await waitFor(
    'the api to be ready',
    async () => (await stack.client().get('/health/ready')).status === 200,
  );
  log = new ProductLog();
});
afterAll(async () => {
  log.stop();
  await stack.stop();
});

const WRONG = basic(OPERATOR.user, 'a guess');
const REPLY = '/admin/replies/01a203eb-82fd-76a1-a5fa-4018ce01bf49';

const ask = (path: string, authorization: string | null, address: string, api = 0): Promise<Response> =>
  fetch(stack.apis[api]!.url + path, {
    headers: { 'x-forwarded-for': address, ...(authorization !== null && { authorization }) },
  });
const statusOf = async (...asked: Parameters<typeof ask>): Promise<number> => {
  const response = await ask(...asked);
  await response.body?.cancel();
  return response.status;
};

const linesOf = (address: string) =>
  log.lines.filter((line) => line.event === 'operator.wrong_password' && line.fields['address'] === address);

it('may try five in a minute, wherever one is asked for, and is not listened to after that', async () => {
  const address = '203.0.113.5';
  expect(await statusOf('/admin/queues', WRONG, address)).toBe(401);
  expect(await statusOf(REPLY, WRONG, address)).toBe(401);
  expect(await statusOf('/health/ready', WRONG, address)).toBe(200);
  expect(await statusOf('/admin/queues/', WRONG, address)).toBe(401);
  expect(await statusOf('/admin//queues', WRONG, address)).toBe(404); // no route, and no password is looked at
  expect(await statusOf('/admin/queues/api/queues', WRONG, address)).toBe(401);

  for (const authorization of [WRONG, OPERATOR_HEADER]) {
    const board = await ask('/admin/queues', authorization, address);
    expect([board.status, Number(board.headers.get('retry-after'))]).toEqual([429, 60]);
    const reply = await ask(REPLY, authorization, address);
    expect(await reply.json()).toMatchObject({ status: 429, code: 'rate_limited' });
    // A load balancer goes on, and is told nothing more.
    const ready = await ask('/health/ready', authorization, address);
    expect([ready.status, await ready.json()]).toEqual([200, { status: 'ok' }]);
  }
  expect(linesOf(address)).toHaveLength(5);
});

it('may try five over all apis', async () => {
  const address = '203.0.113.8';
  const board = (authorization: string, api: number) =>
    statusOf('/admin/queues', authorization, address, api);
  for (const api of [0, 0, 0, 1, 1]) expect(await board(WRONG, api)).toBe(401);

  expect(await board(OPERATOR_HEADER, 0)).toBe(429);
  expect(await board(OPERATOR_HEADER, 1)).toBe(429);
  expect(await board(WRONG, 1)).toBe(429);
  expect(await board(OPERATOR_HEADER, 1)).toBe(429);
  expect(linesOf(address)).toHaveLength(5);
});

it('has five in all, however many are sent at once', async () => {
  const address = '203.0.113.9';
  const tried = await Promise.all(
    Array.from({ length: 20 }, () => statusOf('/admin/queues', WRONG, address)),
  );
  expect(tried.filter((status) => status === 401)).toHaveLength(5);
  expect(await statusOf('/admin/queues', OPERATOR_HEADER, address, 1)).toBe(429);
});

it('keeps no other address out, nor whoever sends no password', async () => {
  const address = '203.0.113.6';
  for (let n = 0; n < 9; n++) await statusOf('/admin/queues', WRONG, address);

  expect(await statusOf('/admin/queues', OPERATOR_HEADER, '203.0.113.7')).toBe(200);
  expect(await statusOf('/admin/queues', null, address)).toBe(401);
});
