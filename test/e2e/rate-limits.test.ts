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
    expect((await act('retry')).body.code).toBe('reply_not_retryable');
    await act('cancel');
    await act('cancel');

    expect(await act('cancel')).toMatchObject(limited('actionsPerSession'));
    expect(await act('retry')).toMatchObject(limited('actionsPerSession'));
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
