import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Stack } from '../support/stack.js';

/** Clients that send one byte after the other, to hold a connection for as long as they like. */

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
});
afterAll(() => stack.stop());

it.concurrent.each([
  ['headers', 'POST /v1/chatbots HTTP/1.1\r\nHost: x\r\nX-Slow: '],
  [
    'a body',
    'POST /v1/chatbots/01a203eb-82fd-76a1-a5fa-4018ce01bf49/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{',
  ],
  ['the line after a request on the same connection', 'GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /'],
])(
  'are answered and cut off within twenty seconds: %s',
  async (_what, begin) => {
    const { hostname, port } = new URL(stack.apis[0]!.url);
    const socket = connect(Number(port), hostname);
    let answer = '';
    socket.on('data', (data) => (answer += String(data)));
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(begin);
    const dripping = setInterval(() => socket.write('x'), 500);
    const startedAt = performance.now();

    await once(socket, 'close');

    clearInterval(dripping);
    expect(performance.now() - startedAt).toBeGreaterThan(12_000); // it is no short patience
    expect(answer).toMatch(/HTTP\/1\.1 408 /);
    expect(answer).toMatch(/"code":"request_timeout"/);
    expect(answer).toMatch(/x-request-id: /i);
  },
  25_000,
);
