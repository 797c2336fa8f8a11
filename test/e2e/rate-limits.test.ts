import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Answer, ApiClient, Json } from '../support/api-client.js';
import { newQuestion } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** What people may do in some time, counted by all apis together. */

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    apis: 2,
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-test',
      LIMITS_ENABLED: 'true',
      TRUST_PROXY: '1',
      LIMIT_SESSIONS_PER_ADDRESS: '5/3600',
      LIMIT_SESSIONS_PER_CHATBOT: '12/3600',
      LIMIT_MESSAGES_PER_SESSION: '6/3600',
      LIMIT_MESSAGES_PER_ADDRESS: '10/3600',
      LIMIT_MESSAGES_PER_CHATBOT: '15/3600',
      LIMIT_ACTIONS_PER_SESSION: '4/3600',
      LIMIT_OWNER_WRITES: '7/3600',
      LIMIT_REPLY_MESSAGES: '1000',
      LIMIT_STREAMS_PER_SESSION: '2',
      LIMIT_STREAMS_PER_ADDRESS: '3',
      LIMIT_LONG_POLLS: '2',
    },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

let customers = 0;
/** An address that nobody has had. */
const newAddress = (): string => `203.0.${Math.floor(customers / 250)}.${(customers++ % 250) + 1}`;
let owners = 0;
const newOwner = (): ApiClient => stack.owner(`user_${++owners}`);
const newChatbot = async (): Promise<string> =>
  (await newOwner().createChatbot({ name: 'Bakery', model: 'ok' })).id;

const from = (address: string) => ({ 'x-forwarded-for': address });

let turn = 0;
/** One api after the other. */
const anApi = (): number => turn++ % 2;

const open = (chatbotId: string, address: string): Promise<Answer<Json>> =>
  stack.client(anApi()).post(`/v1/chatbots/${chatbotId}/sessions`, {}, from(address));

const post = (guest: ApiClient, sessionId: string, address: string): Promise<Answer<Json>> =>
  guest
    .at(stack.apis[anApi()]!.url)
    .post(`/v1/sessions/${sessionId}/messages`, { content: newQuestion() }, from(address));

const limited = (limit: string) => ({ status: 429, body: { code: 'rate_limited', limit } });

/** A session of somebody who has opened none yet. */
async function openSession(chatbotId: string): Promise<{ session: Json; guest: ApiClient }> {
  const { body } = await open(chatbotId, newAddress());
  return { session: body.session, guest: stack.client().as(body.token) };
}

async function statuses(times: number, request: () => Promise<Answer<Json>>): Promise<number[]> {
  const found: number[] = [];
  for (let n = 0; n < times; n++) found.push((await request()).status);
  return found;
}

/** What is left, as an answer tells it. */
const allowanceIn = (headers: Headers): Record<string, number> =>
  Object.fromEntries(
    ['limit', 'remaining', 'reset'].map((name) => [name, Number(headers.get(`ratelimit-${name}`))]),
  );

it('what is left of the limit that is nearest stands in the headers, which pages may read', async () => {
  const [chatbotId, address] = [await newChatbot(), newAddress()];
  const left = [];
  for (let n = 0; n < 7; n++) {
    const { limit, remaining, reset } = allowanceIn((await open(chatbotId, address)).headers);
    left.push([limit, remaining]);
    expect(reset).toBeGreaterThan(3_000);
    expect(reset).toBeLessThanOrEqual(3_600);
  }
  expect(left).toEqual([4, 3, 2, 1, 0, 0, 0].map((remaining) => [5, remaining]));
  const page = await stack.client().request('POST', `/v1/chatbots/${chatbotId}/sessions`, {
    headers: { origin: 'https://shop.example', ...from(address) },
  });
  expect(page.status).toBe(429);
  expect(page.headers.get('access-control-expose-headers')).toMatch(/RateLimit-Remaining/);
});

describe('sessions', () => {
  it('are opened from one address as often as its limit says, whichever api is asked; others go on', async () => {
    const [chatbotId, address] = [await newChatbot(), newAddress()];
    expect(await statuses(5, () => open(chatbotId, address))).toEqual(Array(5).fill(201));

    for (let n = 0; n < 4; n++) {
      const refused = await open(chatbotId, address);
      expect(refused).toMatchObject(limited('sessionsPerAddress'));
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(3_000);
      expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(3_600);
    }
    expect((await open(chatbotId, newAddress())).status).toBe(201);
  });

  it.each([
    ['an IPv4 address written as IPv6', '198.51.100.7', '::ffff:198.51.100.7'],
    ['another address of the same /64', '2001:db8:1:1::1', '2001:db8:1:1:ffff:ffff:ffff:ffff'],
    ['the same address written otherwise', '2001:db8:2:1::1', '2001:0DB8:0002:0001:0000:0000:0000:0001'],
  ])('count as from one address: %s', async (_what, one, other) => {
    const chatbotId = await newChatbot();
    expect(await statuses(5, () => open(chatbotId, one))).toEqual(Array(5).fill(201));

    expect(await open(chatbotId, other)).toMatchObject(limited('sessionsPerAddress'));
  });

  it('count as from one site beyond eight times the limit: every /64 of a /48', async () => {
    const refused = [];
    for (let net = 0; net < 9; net++) {
      const chatbotId = await newChatbot();
      for (let n = 0; n < 5; n++) {
        const { status, body } = await open(chatbotId, `2001:db8:77:${net}::${n + 1}`);
        if (status !== 201) refused.push([net, body.limit]);
      }
    }
    expect(refused).toEqual(Array.from({ length: 5 }, () => [8, 'sessionsPerAddress']));
  });

  it('of one chatbot are limited too, and a flood from one address does not use that up', async () => {
    const chatbotId = await newChatbot();
    const flood = newAddress();
    await statuses(30, () => open(chatbotId, flood)); // five of which count
    expect(await statuses(7, () => open(chatbotId, newAddress()))).toEqual(Array(7).fill(201));

    expect(await open(chatbotId, newAddress())).toMatchObject(limited('sessionsPerChatbot'));
    expect((await open(await newChatbot(), newAddress())).status).toBe(201);
  });

  it('cannot be counted by what a caller says of itself beyond the trusted proxy', async () => {
    const [chatbotId, address] = [await newChatbot(), newAddress()];
    for (let n = 0; n < 5; n++) await open(chatbotId, `10.0.0.${n}, ${address}`);

    expect(await open(chatbotId, `10.0.0.77, ${address}`)).toMatchObject(limited('sessionsPerAddress'));
  });
});

describe('messages', () => {
  it('are posted to one session as often as its limit says, and the session goes on being read', async () => {
    const address = newAddress();
    const { session, guest } = await openSession(await newChatbot());
    expect(await statuses(6, () => post(guest, session.id, address))).toEqual(Array(6).fill(202));

    expect(await post(guest, session.id, address)).toMatchObject(limited('messagesPerSession'));
    expect(await post(guest, session.id, newAddress())).toMatchObject(limited('messagesPerSession'));
    const { body } = await guest.get(`/v1/sessions/${session.id}/messages`);
    expect(body.data.filter(({ sender }: Json) => sender === 'user')).toHaveLength(6);
  });

  it('are posted from one address as often as its limit says, but for those of an owner', async () => {
    const [chatbotId, address] = [await newChatbot(), newAddress()];
    const sessions = [];
    for (let n = 0; n < 3; n++) sessions.push(await openSession(chatbotId));
    for (const { session, guest } of sessions.slice(0, 2)) {
      await statuses(5, () => post(guest, session.id, address));
    }

    const [last] = sessions.slice(2);
    expect(await post(last!.guest, last!.session.id, address)).toMatchObject(limited('messagesPerAddress'));
    const owner = stack.owner(`user_${owners}`);
    expect((await post(owner, last!.session.id, address)).status).toBe(202);
  });

  it('are posted to all sessions of one chatbot as often as its limit says', async () => {
    const chatbotId = await newChatbot();
    const answers: number[] = [];
    for (let n = 0; n < 3; n++) {
      const { session, guest } = await openSession(chatbotId);
      answers.push(...(await statuses(5, () => post(guest, session.id, newAddress()))));
    }
    expect(answers).toEqual(Array(15).fill(202));

    const { session, guest } = await openSession(chatbotId);
    expect(await post(guest, session.id, newAddress())).toMatchObject(limited('messagesPerChatbot'));
  });
});

describe('actions', () => {
  it('of one session, to stop or to ask again, are limited', async () => {
    const { session, guest } = await openSession(await newChatbot());
    const { reply } = await guest.postMessage(session.id, newQuestion());
    await guest.finalReply(reply.id);
    const act = (what: string): Promise<Answer<Json>> => guest.post(`/v1/replies/${reply.id}/${what}`);
    expect((await act('cancel')).status).toBe(200);
    expect((await act('retry')).status).toBe(202);
    await act('cancel');
    await act('cancel');

    expect(await act('cancel')).toMatchObject(limited('actionsPerSession'));
    expect(await act('retry')).toMatchObject(limited('actionsPerSession'));
  });
});

describe('messages without an answer', () => {
  it('are taken up to their limit, and again when there is an answer', async () => {
    const limits = { unansweredPerSession: { max: 3, windowSeconds: 600 } };
    const { id } = await newOwner().createChatbot({ name: 'Bakery', model: 'held', limits });
    const { session, guest } = await openSession(id);
    const question = newQuestion();
    const ask = (content: string): Promise<Answer<Json>> =>
      guest.post(`/v1/sessions/${session.id}/messages`, { content }, from(newAddress()));
    await ask(question);
    const call = await provider.callAbout(question);
    const waiting = await ask(newQuestion());
    expect(await ask(newQuestion())).toMatchObject({ status: 202 });

    const refused = await ask(newQuestion());

    expect(refused).toMatchObject(limited('unansweredPerSession'));
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    call.release();
    await waitFor('the first to be answered', async () => {
      const { body } = await guest.get(`/v1/replies/${waiting.body.reply.id}`);
      return body.status === 'in_progress';
    });
    expect((await ask(newQuestion())).status).toBe(202);
  });
});

/** An event stream, open until it is closed. */
async function follow(
  guest: ApiClient,
  sessionId: string,
  address: string,
): Promise<{ status: number; headers: Headers; body: Json; close: () => void }> {
  const url = `${stack.apis[anApi()]!.url}/v1/sessions/${sessionId}/events`;
  const closing = new AbortController();
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${guest.token ?? ''}`, ...from(address) },
    signal: closing.signal,
  });
  return {
    status: response.status,
    headers: response.headers,
    body: response.ok ? null : await response.json(),
    close: () => closing.abort(),
  };
}

describe('event streams', () => {
  it('of one session are open up to their limit at once, whichever api is asked', async () => {
    const { session, guest } = await openSession(await newChatbot());
    const open = [];
    for (let n = 0; n < 2; n++) open.push(await follow(guest, session.id, newAddress()));
    expect(open.map(({ status }) => status)).toEqual([200, 200]);

    const refused = await follow(guest, session.id, newAddress());
    expect(refused).toMatchObject(limited('streamsPerSession'));
    expect([...open, refused].map(({ headers }) => allowanceIn(headers))).toEqual(
      [1, 0, 0].map((remaining) => ({ limit: 2, remaining, reset: 5 })),
    );
    expect(refused.headers.get('retry-after')).toBe('5');

    open[0]!.close();
    await waitFor('a place', async () => {
      const again = await follow(guest, session.id, newAddress());
      again.close();
      return again.status === 200;
    });
    open[1]!.close();
  });

  it('from one address are open up to their limit at once, but for those of an owner', async () => {
    const [chatbotId, address] = [await newChatbot(), newAddress()];
    const open = [];
    for (let n = 0; n < 3; n++) {
      const { session, guest } = await openSession(chatbotId);
      open.push(await follow(guest, session.id, address));
    }
    const { session, guest } = await openSession(chatbotId);

    expect(await follow(guest, session.id, address)).toMatchObject(limited('streamsPerAddress'));
    const owner = stack.owner(`user_${owners}`);
    const asOwner = await follow(owner, session.id, address);
    expect(asOwner.status).toBe(200);
    for (const each of [...open, asOwner]) each.close();
  });
});

describe('requests that wait for a reply', () => {
  it('of one session are taken up to their limit at once; who does not wait is answered', async () => {
    const { id } = await newOwner().createChatbot({ name: 'Bakery', model: 'held' });
    const { session, guest } = await openSession(id);
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    const call = await provider.callAbout(question);
    const wait = (): Promise<Answer<Json>> =>
      guest.at(stack.apis[anApi()]!.url).get(`/v1/replies/${reply.id}?wait=30`);
    const waiting = [wait(), wait()];
    await sleep(500); // nothing shows that they wait

    expect(await wait()).toMatchObject(limited('longPolls'));
    expect((await guest.get(`/v1/replies/${reply.id}`)).status).toBe(200);

    call.release();
    for (const { body } of await Promise.all(waiting)) expect(body.status).toBe('completed');
    expect((await wait()).status).toBe(200);
  });
});

describe('a chatbot’s own limits', () => {
  it('are counted in the place of the server’s, for it alone, from the next request on', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({
      name: 'Bakery',
      model: 'ok',
      limits: {
        sessionsPerAddress: { max: 2, windowSeconds: 3_600 },
        messagesPerSession: { max: 1, windowSeconds: 3_600 },
        streamsPerSession: { max: 1 },
      },
    });
    const address = newAddress();
    const [first, second, third] = [
      await open(id, address),
      await open(id, address),
      await open(id, address),
    ];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(third).toMatchObject(limited('sessionsPerAddress'));
    expect((await open(await newChatbot(), address)).status).toBe(201);
    const guest = stack.client().as(first.body.token);
    expect((await post(guest, first.body.session.id, address)).status).toBe(202);
    expect(await post(guest, first.body.session.id, address)).toMatchObject(limited('messagesPerSession'));
    const stream = await follow(guest, first.body.session.id, address);
    expect(await follow(guest, first.body.session.id, address)).toMatchObject(limited('streamsPerSession'));
    stream.close();
    await owner.patch(`/v1/chatbots/${id}`, {
      limits: { messagesPerSession: { max: 50, windowSeconds: 3_600 } },
    });
    await waitFor(
      'the raised limit',
      async () => (await post(guest, first.body.session.id, address)).status === 202,
    );

    await owner.patch(`/v1/chatbots/${id}`, {
      limits: { sessionsPerAddress: { max: 3, windowSeconds: 3_600 } },
    });

    expect(await statuses(2, () => open(id, newAddress()))).toEqual([201, 201]);
    expect((await owner.get(`/v1/chatbots/${id}`)).body.limits).toEqual({
      sessionsPerAddress: { max: 3, windowSeconds: 3_600 },
      messagesPerSession: { max: 50, windowSeconds: 3_600 },
      streamsPerSession: { max: 1 },
    });
    const { body: fewer } = await owner.patch(`/v1/chatbots/${id}`, {
      limits: { sessionsPerAddress: null, messagesPerSession: null },
    });
    expect(fewer.limits).toEqual({ streamsPerSession: { max: 1 } });
    expect((await owner.patch(`/v1/chatbots/${id}`, { limits: null })).body.limits).toBeNull();
  });

  it('are no more than the operator allows, also where that came later', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({
      name: 'Bakery',
      limits: { sessionsPerAddress: { max: 50, windowSeconds: 3_600 } },
    });
    const strict = await stack.addApi({
      LIMITS_OF_CHATBOT_FACTOR: '1',
      LIMIT_SESSIONS_PER_ADDRESS: '2/3600',
    });
    const [address, path] = [newAddress(), `/v1/chatbots/${id}/sessions`];
    const at = stack.client().at(strict.url);

    expect(await statuses(3, () => at.post(path, {}, from(address)))).toEqual([201, 201, 429]);
  });

  it.each<[unknown, RegExp]>([
    [
      { sessionsPerAddress: { max: 51, windowSeconds: 3_600 } },
      /^sessionsPerAddress must be at most 50 in 3600 /,
    ],
    [
      { sessionsPerAddress: { max: 51, windowSeconds: 99_999 } },
      /at most 50 in 99999 seconds on this server/,
    ],
    [{ sessionsPerAddress: { max: 2, windowSeconds: 60 } }, /at most 1 in 60 seconds on this server/],
    [{ streamsPerSession: { max: 21 } }, /^streamsPerSession must be at most 20 on this server/],
    [
      { streamsPerSession: { max: 1, windowSeconds: 5 } },
      /^streamsPerSession must be \{ max: 1 to 99999999 \}/,
    ],
    [{ messagesPerSession: { max: 5 } }, /^messagesPerSession must be .*windowSeconds/],
    [{ messagesPerSession: { max: 0, windowSeconds: 60 } }, /^messagesPerSession must be/],
    [{ messagesPerSession: { max: 1.5, windowSeconds: 60 } }, /^messagesPerSession must be/],
    [{ messagesPerSession: { max: '5', windowSeconds: 60 } }, /^messagesPerSession must be/],
    [{ messagesPerSession: { max: 5, windowSeconds: 60, burst: 1 } }, /^messagesPerSession must be/],
    [{ messagesPerSession: { max: 1e300, windowSeconds: 60 } }, /^messagesPerSession must be/],
    [{ messagesPerSession: 5 }, /^messagesPerSession must be/],
    [{ messagesPerSession: [] }, /^messagesPerSession must be/],
    [{ ownerWrites: { max: 5, windowSeconds: 60 } }, /^names a limit that there is not/],
    [[], /^must be an object, or null/],
    ['none', /^must be an object, or null/],
    [7, /^must be an object, or null/],
  ])('cannot be %j', async (limits, message) => {
    const owner = newOwner();
    const { id } = await owner.createChatbot();
    for (const { status, body } of [
      await owner.post('/v1/chatbots', { name: 'Bakery', limits }),
      await owner.patch(`/v1/chatbots/${id}`, { limits }),
    ]) {
      expect(status).toBe(400);
      expect(body.errors).toEqual([{ pointer: '/limits', message: expect.stringMatching(message) }]);
    }
  });
});

describe('the chatbots of one owner', () => {
  it('are as many as the server says, however many are made at once', async () => {
    const few = await stack.addApi({ LIMIT_CHATBOTS_PER_OWNER: '3', LIMITS_ENABLED: 'false' });
    const owner = newOwner().at(few.url);
    const made = await Promise.all(
      Array.from({ length: 8 }, (_, n) => owner.post('/v1/chatbots', { name: `Chatbot ${n}` })),
    );

    expect(made.filter(({ status }) => status === 201)).toHaveLength(3);
    expect(made.filter(({ status, body }) => status === 409 && body.code === 'limit_reached')).toHaveLength(
      5,
    );
    expect((await newOwner().at(few.url).post('/v1/chatbots', { name: 'Another’s' })).status).toBe(201);
  });
});

describe('what an owner writes', () => {
  it('is limited, and what it reads is not', async () => {
    const owner = newOwner();
    for (let n = 0; n < 7; n++) await owner.createChatbot();

    expect(await owner.post('/v1/chatbots', { name: 'One more' })).toMatchObject(limited('ownerWrites'));
    expect((await owner.get('/v1/chatbots')).body.data).toHaveLength(7);
    expect((await newOwner().post('/v1/chatbots', { name: 'Another’s' })).status).toBe(201);
  });
});

describe('a window', () => {
  it('that is over begins anew', async () => {
    const short = await stack.addApi({
      LIMIT_SESSIONS_PER_ADDRESS: '1/1',
      LIMIT_SESSIONS_PER_CHATBOT: '999/3600',
    });
    const [chatbotId, address] = [await newChatbot(), newAddress()];
    const open = () =>
      stack.client().at(short.url).post(`/v1/chatbots/${chatbotId}/sessions`, {}, from(address));
    expect((await open()).status).toBe(201);
    expect((await open()).status).toBe(429);

    await waitFor('the next window', async () => (await open()).status === 201);
  });
});
