import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { cpuMsOf } from '../support/cpu-time.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** What strangers may send, in whatever size and shape, and what it costs everybody else. */

let stack: Stack;
let url: URL;
let chatbotId: string;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
  url = new URL(stack.apis[0]!.url);
  ({ id: chatbotId } = await stack.owner().createChatbot());
});
afterAll(() => stack.stop());

/** Sends bytes as they are, and reads what comes until the connection ends, or for so long. */
async function exchange(bytes: string, patienceMs = 5_000): Promise<string> {
  const socket = connect(Number(url.port), url.hostname);
  let answer = '';
  socket.on('data', (data) => (answer += String(data)));
  socket.on('error', () => undefined);
  socket.write(bytes);
  await Promise.race([once(socket, 'close'), sleep(patienceMs, undefined, { ref: false })]);
  socket.destroy();
  return answer;
}

describe('what is no request for the API', () => {
  it.each([
    ['what is no HTTP', 'hello\r\n\r\n', 400, 'malformed_request'],
    ['a header without a name', 'GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n', 400, 'malformed_request'],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      400,
      'malformed_request',
    ],
    [
      'a length and chunks',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      400,
      'malformed_request',
    ],
    [
      'headers of 20 KiB',
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`,
      431,
      'headers_too_large',
    ],
    ['a path of 20 KiB', `GET /${'y'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431, 'headers_too_large'],
    [
      'an expectation',
      'POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\nContent-Length: 1\r\n\r\n',
      417,
      'expectation_failed',
    ],
  ])('is refused as the API refuses, with a request id: %s', async (_what, bytes, status, code) => {
    const answer = await exchange(bytes);

    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toMatch(/^content-type: application\/problem\+json/im);
    const requestId = /^x-request-id: (\S+)/im.exec(answer)?.[1];
    const body: unknown = JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1));
    expect(body).toMatchObject({ type: 'about:blank', status, code, requestId });
  });
});

it('a connection that was refused is kept for nobody, also where its client is silent and does not close it', async () => {
  const server = stack.apis[0]!.app.getHttpServer();
  const connections = promisify(server.getConnections.bind(server));
  const before = await connections();
  const socket = connect({ port: Number(url.port), host: url.hostname, allowHalfOpen: true });
  socket.on('error', () => undefined);
  socket.write('hello\r\n\r\n');
  socket.resume();
  await once(socket, 'end');

  try {
    await waitFor('the connection to be gone', async () => (await connections()) <= before);
  } finally {
    socket.destroy(); // or the server could not stop
  }
});

describe('a body that is too large', () => {
  const post = (size: number, isChunked: boolean) => {
    const request = httpRequest(new URL(`/v1/chatbots/${chatbotId}/sessions`, url), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(isChunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': size }),
      },
    });
    request.on('error', () => undefined);
    return request;
  };

  it.each([false, true])(
    'is answered, and its connection ended, long before it has arrived; in chunks: %s',
    async (isChunked) => {
      const megabyte = Buffer.alloc(1024 * 1024, ' ');
      const request = post(690 * megabyte.length, isChunked);
      let isAnswered = false;
      const answered = once(request, 'response').then(([response]) => {
        isAnswered = true;
        return response as { statusCode: number; headers: Record<string, string> };
      });
      let isBroken = false;
      const closed = once(request, 'close')
        .catch(() => undefined)
        .then(() => (isBroken = true));
      let sent = 0;
      for (; sent < 690 && !isAnswered && !isBroken; sent++) {
        await Promise.race([
          new Promise((resolve) => request.write(megabyte, () => resolve(null))),
          closed,
          answered.catch(() => undefined),
        ]);
      }

      // A client that goes on sending when the connection has ended may see that first, and the answer never.
      const answer = await answered.catch(() => null);
      await closed;
      if (answer) {
        expect(answer.statusCode).toBe(413);
        expect(answer.headers['connection']).toBe('close');
      }
      expect(sent).toBeLessThan(20);
    },
  );

  it('is answered to a client that first sends all of it, where it is not far too large', async () => {
    const request = post(400_000, false);
    request.end(Buffer.alloc(400_000, ' '));

    const [response] = (await once(request, 'response')) as [{ statusCode: number }];
    expect(response.statusCode).toBe(413);
  });
});

describe('a large body that nobody reads', () => {
  it.each([
    ['POST', '/v1/chatbots', 401],
    ['POST', '/nothing', 404],
    ['GET', '/health/live', 200],
  ])('of %s %s ends its connection with the answer', async (method, path, status) => {
    const megabyte = Buffer.alloc(1024 * 1024, ' ');
    const request = httpRequest(new URL(path, url), {
      method,
      headers: { 'content-type': 'application/json', 'content-length': 200 * megabyte.length },
    });
    request.on('error', () => undefined);
    const answered = once(request, 'response')
      .then(([response]) => response as { statusCode: number; headers: Record<string, string> })
      .catch(() => null); // who goes on sending may see the end of the connection first
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    request.once('close', resolve);
    let isClosed = false;
    void closed.then(() => (isClosed = true));
    let sent = 0;
    for (; sent < 200 && !isClosed; sent++) {
      await Promise.race([new Promise<void>((written) => request.write(megabyte, () => written())), closed]);
    }

    expect(sent).toBeLessThan(100);
    await closed;
    const answer = await answered;
    if (answer) {
      expect(answer.statusCode).toBe(status);
      expect(answer.headers['connection']).toBe('close');
    }
  });
});

describe('a client that has gone', () => {
  it('before its request could be looked at has nothing done for it', async () => {
    const count = async (): Promise<number> =>
      (await stack.database.query<{ n: number }>('select count(*)::int as n from chat_sessions'))[0]!.n;
    const before = await count();
    const sockets: Socket[] = [];
    for (let n = 0; n < 50; n++) {
      const socket = connect(Number(url.port), url.hostname);
      await once(socket, 'connect');
      sockets.push(socket);
    }
    for (const socket of sockets) {
      socket.write(
        `POST /v1/chatbots/${chatbotId}/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`,
      );
      socket.resetAndDestroy();
    }
    // The process has had no turn in which to see any of them.
    await stack.client().openSession(chatbotId);

    await sleep(200);
    expect(await count()).toBe(before + 1);
  });
});

/**
 * Those that a stranger or a guest may send a body to, a field that each has, and how many times an empty body of that size
 * any may cost: a chat's may be a long history, so it is looked at further before it is refused.
 */
const ROUTES: [route: string, field: string, most: number, path: (sessionId: string) => string][] = [
  ['opens a session', 'guest', 8, () => `/v1/chatbots/${chatbotId}/sessions`],
  ['posts a message', 'content', 8, (sessionId) => `/v1/sessions/${sessionId}/messages`],
  ['chats as the AI SDK does', 'messages', 16, (sessionId) => `/v1/sessions/${sessionId}/chat`],
  ['stops a chat', 'messageId', 8, (sessionId) => `/v1/sessions/${sessionId}/chat/stop`],
];

describe.each(ROUTES)('a body of 128 KiB on the route that %s', (_route, field, most, path) => {
  const SIZE = 128 * 1024;
  const fill = (begin: string, piece: string, end: string): string => {
    const text =
      begin + piece.repeat(Math.floor((SIZE - begin.length - end.length - 1) / piece.length)) + end;
    return text + ' '.repeat(SIZE - Buffer.byteLength(text));
  };
  const pieces = (piece: (n: number) => string, most: number): string =>
    Array.from({ length: most }, (_, n) => piece(n)).join(',');

  const SHAPES: [string, string][] = [
    ['empty objects in a list', fill(`{"${field}":[{}`, ',{}', ']}')],
    ['lists in lists', `{"${field}":${'['.repeat(SIZE / 2 - 10)}${']'.repeat(SIZE / 2 - 10)}}`],
    ['objects in objects', `{"${field}":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`],
    ['names', `{${pieces((n) => `"k${n}":1`, 11_000)}}`],
    ['the same name', fill(`{"${field}":1`, `,"${field}":1`, '}')],
    ['numbers', fill(`{"${field}":[1`, ',1', ']}')],
    ['a text', fill(`{"${field}":"`, 'x', '"}')],
    ['a name of the guest', fill(`{"${field}":{"name":"`, 'x', '"}}')],
    ['an address of the guest', fill(`{"${field}":{"email":"a@`, 'b.', 'c"}}')],
    ['escapes', fill(`{"${field}":{"name":"`, String.raw`\u00e9`, '"}}')],
    ['combining marks', `{"${field}":{"name":"e${'\u0301'.repeat(60_000)}"}}`],
    ['lone surrogates', fill(`{"${field}":{"name":"`, String.raw`\ud800`, '"}}')],
    ['an unfinished string', `{"${field}":"${'x'.repeat(SIZE - 20)}`],
  ];

  let opened: { session: { id: string }; token: string };
  beforeAll(async () => {
    const { session, token } = await stack.client().openSession(chatbotId);
    opened = { session: { id: session.id }, token };
  });
  const send = (body: string) => async (): Promise<void> => {
    const response = await fetch(new URL(path(opened.session.id), url), {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${opened.token}` },
      body,
    });
    expect([201, 204, 400]).toContain(response.status);
    await response.text();
  };
  /** The cheapest of several: what else the machine does only adds. */
  const least = async (body: string): Promise<number> => {
    const times: number[] = [];
    for (let n = 0; n < 12; n++) times.push(await cpuMsOf(send(body)));
    return Math.min(...times);
  };

  it.each(SHAPES)('costs no more than a few times an empty one of that size: %s', async (_shape, body) => {
    await least('{}');
    const empty = await least(fill('{', ' ', '}'));
    const costs = await least(body);

    expect(costs).toBeLessThan(most * empty);
  });
});
