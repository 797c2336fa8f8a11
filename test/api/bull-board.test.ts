import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { checkedFetch } from '../support/contract.js';
import {
  askCanaryToTheEnd,
  basic,
  jobOf,
  OPERATOR,
  OPERATOR_HEADER,
  sendRaw,
  stateOf,
  untilJobIs,
} from '../support/queue-board.js';
import { Stack } from '../support/stack.js';

let provider: RawProvider;
let stack: Stack;
let url: string;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-canary',
      BULL_BOARD_USER: OPERATOR.user,
      BULL_BOARD_PASSWORD: OPERATOR.password,
      CORS_ORIGINS: '*',
      DRAIN_TIMEOUT_MS: '0',
    },
  });
  url = stack.apis[0]!.url;
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Ways to write the board's paths. */
const PATHS = [
  '/admin/queues',
  '/admin/queues/',
  '/admin/queues//',
  '/admin/queues?x=1',
  '/admin/queues#x',
  '/admin/queues/queue/replies',
  '/admin/queues/api/queues',
  '/admin/queues/api/queues?activeQueue=replies&status=failed',
  '/admin/queues/api/queues/replies/retry/failed',
  '/admin/queues/api/queues/replies/clean/completed',
  '/admin/queues/api/queues/replies/promote',
  '/admin/queues/api/queues/replies/pause',
  '/admin/queues/api/queues/replies/add',
  '/admin/queues/static/js/main.js',
  '/admin/queues/static/locales/en-US/messages.json',
  '/admin/queues/static/../api/queues',
  '/admin/queues/static/%2e%2e/api/queues',
  '/admin/queues/../queues/api/queues',
  '/admin/queues/%2e%2e/',
  '/admin/queues/%2e%2e/queues',
  '/admin/queues/%252e%252e/queues',
  '/admin/queues/..%2f..%2fadmin/queues/api/queues',
  '/ADMIN/QUEUES',
  '/Admin/Queues/api/queues',
  '/admin//queues',
  '//admin/queues',
  '//admin//queues',
  '//admin//queues//api//queues',
  '///admin/queues/api/queues',
  '/./admin/queues',
  '/v1/../admin/queues',
  '/docs/../admin/queues/api/queues',
  '/health/live/../../admin/queues/api/queues',
  '/admin/%71ueues',
  '/admin/%2571ueues',
  '/%61dmin/queues/api/queues',
  '/admin%2fqueues',
  '/admin%252fqueues',
  '/admin/queues%2fapi%2fqueues',
  '/admin/queues%00/api/queues',
  '/admin/queues%20/api/queues',
  '/admin/queues;x=1',
  '/admin;x=1/queues/api/queues',
  '/admin/queues.json',
  '/admin/queues./api/queues',
  '/admin\\queues',
  '/admin/queues\\api\\queues',
  'http://127.0.0.1/admin/queues',
  'http://127.0.0.1//admin//queues/api/queues',
];

describe('whoever is no operator', () => {
  let guestToken: string;
  let known: string;
  beforeAll(async () => {
    const asked = await askCanaryToTheEnd(stack, 'ok');
    guestToken = asked.guest.token!;
    known = asked.replyId;
    await untilJobIs(stack, jobOf(asked), 'completed');
  });

  it('gets 401 with a challenge', async () => {
    for (const authorization of [
      undefined,
      basic('operator', 'wrong'),
      basic('wrong', OPERATOR.password),
      basic('', ''),
      basic('operator', ''),
      basic('operator', `${OPERATOR.password}x`),
      basic('operator:a pass', 'word '),
      'Basic',
      'Basic !!!',
      `Bearer ${stack.ownerToken()}`,
      `Bearer ${guestToken}`,
      basic(guestToken, ''),
      `Bearer ${OPERATOR_HEADER.slice('Basic '.length)}`,
    ]) {
      const response = await fetch(`${url}/admin/queues`, {
        headers: authorization === undefined ? {} : { authorization },
      });

      expect([authorization, response.status]).toEqual([authorization, 401]);
      expect(response.headers.get('www-authenticate')).toMatch(/^Basic realm="[^"]+"/);
      expect(await response.text()).toBe('Operators only.');
    }
  });

  it.each(PATHS)('does not get around that with %s', async (path) => {
    const credentials: Record<string, string>[] = [
      {},
      { Authorization: `Bearer ${stack.ownerToken()}` },
      { Authorization: `Bearer ${guestToken}` },
    ];
    for (const method of METHODS) {
      for (const headers of credentials) {
        const { status, text } = await sendRaw(url, method, path, headers);

        // A preflight is answered by CORS where the path is none of the board's; 400: no path at all.
        const refusals = method === 'OPTIONS' ? [204, 400, 401, 404] : [400, 401, 404];
        expect([method, path, refusals.includes(status) || status]).toEqual([method, path, true]);
        expect(text).not.toContain(known);
        expect(text).not.toMatch(/canary|Bull|bullmq|<script/);
      }
    }
    expect(await stateOf(stack, `r-${known}-1`)).toBe('completed'); // nothing was cleaned or enqueued
  });

  it('does not get around that with headers that name another path or method', async () => {
    for (const name of ['X-Original-URL', 'X-Rewrite-URL', 'X-Forwarded-Prefix']) {
      const { text } = await sendRaw(url, 'GET', '/health/live', { [name]: '/admin/queues/api/queues' });
      expect(text).not.toContain('replies');
    }
    const overridden = await sendRaw(url, 'POST', '/admin/queues/api/queues', {
      'X-HTTP-Method-Override': 'GET',
    });
    expect(overridden.status).toBe(401);
  });

  it('takes no credential from the path, nor the operator’s for the API', async () => {
    const userInfo = `${OPERATOR.user}:${encodeURIComponent(OPERATOR.password)}`;
    const { status } = await sendRaw(url, 'GET', `http://${userInfo}@127.0.0.1/admin/queues`);
    const answer = await checkedFetch(`${url}/v1/chatbots`, { headers: { authorization: OPERATOR_HEADER } });

    expect([400, 401, 404]).toContain(status);
    expect(answer.status).toBe(401);
  });
});

describe('without configured credentials', () => {
  const NONE = { BULL_BOARD_USER: '', BULL_BOARD_PASSWORD: '' };

  it('there is no board in production', async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const api = await stack.addApi({
      ...NONE,
      NODE_ENV: 'production',
      CLERK_JWT_KEY: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    });

    for (const path of PATHS) {
      for (const authorization of [OPERATOR_HEADER, basic('operator', ''), basic('', '')]) {
        const { status, text } = await sendRaw(api.url, 'GET', path, { authorization });

        expect([path, status === 400 ? 404 : status]).toEqual([path, 404]);
        expect(text).not.toMatch(/^www-authenticate/im);
      }
    }
  });

  it('elsewhere a password is made once, for whoever may read the file', async () => {
    const first = await stack.addApi(NONE);
    const file = join(stack.stateDir, 'bull-board-password');
    const password = readFileSync(file, 'utf8');
    const second = await stack.addApi(NONE);

    expect(password).toMatch(/^[\w-]{24}$/);
    expect(readFileSync(file, 'utf8')).toBe(password);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    for (const api of [first, second]) {
      const signIn = (header: string) =>
        fetch(`${api.url}/admin/queues`, { headers: { authorization: header } }).then(({ status }) => status);
      expect(await signIn(basic('operator', password))).toBe(200);
      expect(await signIn(OPERATOR_HEADER)).toBe(401);
    }
  });
});
