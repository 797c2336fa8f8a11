import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ApiClient, Json } from '../support/api-client.js';
import { vouch } from '../support/identity.js';
import { Stack } from '../support/stack.js';

/** People whom an owner vouches for. */

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
});
afterAll(() => stack.stop());

interface Known {
  id: string;
  secret: string;
  owner: ApiClient;
}

async function chatbotWithSecret(more: object = {}): Promise<Known> {
  const owner = stack.owner();
  const { id } = await owner.createChatbot({ name: 'Bakery', greeting: 'Hello {name}!', ...more });
  const { status, body } = await owner.post(`/v1/chatbots/${id}/identity-secret`);
  expect([status, body.secret]).toEqual([201, expect.stringMatching(/^ais_[\w-]{43}$/)]);
  return { id, secret: body.secret, owner };
}

const openWith = (id: string, token: string, body: object = {}) =>
  stack.client().as(token).post(`/v1/chatbots/${id}/sessions`, body);

const inDays = (days: number): number => Math.floor(Date.now() / 1000) + days * 86_400;

describe('a person whom an owner vouches for', () => {
  it('is the same guest each time, by what is told of it last, and has a token for each device', async () => {
    const { id, secret } = await chatbotWithSecret();
    const told = await vouch(secret, id, { sub: 'user-7', name: 'Ada', email: 'ada@example.org' });
    const first = await openWith(id, told, { guest: { name: 'Somebody', email: 'else@example.org' } });
    const second = await openWith(id, await vouch(secret, id, { sub: 'user-7', name: 'Ada L.' }));

    expect(first.body.session.guest).toMatchObject({
      externalId: 'user-7',
      name: 'Ada',
      email: 'ada@example.org',
    });
    expect(first.body.messages[0].content).toBe('Hello Ada!');
    expect(second.body.session.guest).toMatchObject({
      id: first.body.session.guest.id,
      name: 'Ada L.',
      email: 'ada@example.org',
    });

    const person = stack.client().as(told);
    const { body: list } = await person.get(`/v1/guest/sessions?chatbotId=${id}`);
    expect(list.data.map((session: Json) => session.id)).toEqual([
      second.body.session.id,
      first.body.session.id,
    ]);
    const page = await person.get('/v1/guest/sessions?limit=1');
    const next = await person.get(`/v1/guest/sessions?limit=1&cursor=${page.body.nextCursor}`);
    expect([...page.body.data, ...next.body.data]).toHaveLength(2);
    const { status, body } = await person.post(`/v1/guest/sessions/${first.body.session.id}/token`);
    expect(status).toBe(201);
    for (const token of [first.body.token, body.token]) {
      expect((await stack.client().as(token).messages(first.body.session.id)).length).toBe(1);
    }
  });

  it('is another one at another chatbot, and whoever has the same name or address is not that person', async () => {
    const [here, there] = [await chatbotWithSecret(), await chatbotWithSecret()];
    const claims = { sub: 'user-7', email: 'ada@example.org' };
    const mine = await openWith(here.id, await vouch(here.secret, here.id, claims));
    const elsewhere = await openWith(there.id, await vouch(there.secret, there.id, claims));
    const unknown = await stack
      .client()
      .post(`/v1/chatbots/${here.id}/sessions`, { guest: { email: 'ada@example.org' } });
    const guests = [mine, elsewhere, unknown].map(({ body }) => body.session.guest);
    expect(new Set(guests.map((guest) => guest.id)).size).toBe(3);
    expect(unknown.body.session.guest.externalId).toBeNull();
    const listed = await stack
      .client()
      .as(await vouch(here.secret, here.id, claims))
      .get('/v1/guest/sessions');
    expect(listed.body.data.map((session: Json) => session.id)).toEqual([mine.body.session.id]);
  });

  it('opens eight sessions at once as one guest', async () => {
    const { id, secret, owner } = await chatbotWithSecret();
    const token = await vouch(secret, id);
    const opened = await Promise.all(Array.from({ length: 8 }, () => openWith(id, token)));
    expect(opened.map(({ status }) => status)).toEqual(Array(8).fill(201));
    const { body } = await owner.get(`/v1/chatbots/${id}/guests`);
    expect(body.data).toMatchObject([{ externalId: 'person-1', sessionCount: 8 }]);
  });

  it('is a new guest after it was erased', async () => {
    const { id, secret, owner } = await chatbotWithSecret();
    const token = await vouch(secret, id);
    const before = await openWith(id, token);
    const erased = await owner.post('/v1/erasures', { chatbotId: id, externalId: 'person-1' });
    expect(erased.body).toEqual({ guests: 1, sessions: 1 });
    expect((await stack.client().as(token).get('/v1/guest/sessions')).body.data).toEqual([]);
    const after = await openWith(id, token);
    expect(after.body.session.guest.id).not.toBe(before.body.session.guest.id);
  });
});

describe('a token that vouches for nobody', () => {
  const unsigned = (header: object, claims: object, key?: string): string => {
    const text = [header, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    return `${text}.${key === undefined ? '' : createHmac('sha256', key).update(text).digest('base64url')}`;
  };
  const fine = { sub: 'person-1', exp: inDays(1) };

  it.each<[string, (bot: Known, other: Known) => string | Promise<string>]>([
    ['expired', ({ id, secret }) => vouch(secret, id, { exp: inDays(-1) })],
    ['good for longer than thirty days', ({ id, secret }) => vouch(secret, id, { exp: inDays(31) })],
    ['without an end', ({ id, secret }) => vouch(secret, id, { exp: undefined })],
    ['not valid yet', ({ id, secret }) => vouch(secret, id, { nbf: inDays(1) })],
    ['of nobody', ({ id, secret }) => vouch(secret, id, { sub: undefined })],
    ['of a blank', ({ id, secret }) => vouch(secret, id, { sub: ' ' })],
    ['of a number', ({ id, secret }) => vouch(secret, id, { sub: 7 })],
    ['of a subject too long', ({ id, secret }) => vouch(secret, id, { sub: 'x'.repeat(256) })],
    ['of two lines', ({ id, secret }) => vouch(secret, id, { sub: 'a\nb' })],
    ['of a name that is no line', ({ id, secret }) => vouch(secret, id, { name: 'a\nb' })],
    ['of a name that is none', ({ id, secret }) => vouch(secret, id, { name: 7 })],
    ['of an address that is none', ({ id, secret }) => vouch(secret, id, { email: 'nobody' })],
    ['signed for another chatbot', (_bot, other) => vouch(other.secret, other.id)],
    ['signed by another chatbot', ({ id }, other) => vouch(other.secret, id)],
    ['signed with a guess', ({ id }) => vouch('secret', id)],
    ['for nobody', ({ secret }) => vouch(secret, 'x', { aud: undefined })],
    ['without a signature', ({ id }) => unsigned({ alg: 'none' }, { ...fine, aud: id })],
    ['of another algorithm', ({ id, secret }) => unsigned({ alg: 'HS512' }, { ...fine, aud: id }, secret)],
    [
      'with an extension that is not known',
      ({ id, secret }) => unsigned({ alg: 'HS256', crit: ['x'], x: 1 }, { ...fine, aud: id }, secret),
    ],
  ])('%s is 401', async (_, make) => {
    const [bot, other] = [await chatbotWithSecret(), await chatbotWithSecret()];
    const token = await make(bot, other);
    const opened = await openWith(bot.id, token);
    expect([opened.status, opened.body.code]).toEqual([401, 'unauthorized']);
    expect(opened.headers.get('www-authenticate')).toMatch(/error="invalid_token"/);
    const listed = await stack.client().as(token).get(`/v1/guest/sessions?chatbotId=${bot.id}`);
    expect([401, 404]).toContain(listed.status);
  });

  it('of somebody else’s making is none of our business, unless people have to be known', async () => {
    const { id, owner } = await chatbotWithSecret();
    for (const token of ['opaque', stack.ownerToken(), unsigned({ alg: 'RS256' }, { aud: 'others' })]) {
      expect((await openWith(id, token)).status).toBe(201);
    }
    await owner.patch(`/v1/chatbots/${id}`, { requireIdentity: true });
    expect((await openWith(id, 'opaque')).status).toBe(401);
  });
});

describe('a chatbot for known people alone', () => {
  it('opens for them, and says so; what is open goes on', async () => {
    const { id, secret, owner } = await chatbotWithSecret();
    const before = await stack.client().openSession(id);
    await owner.patch(`/v1/chatbots/${id}`, { requireIdentity: true });
    expect((await stack.client().get(`/v1/chatbots/${id}/public`)).body.requireIdentity).toBe(true);
    const { status, headers, body } = await stack.client().post(`/v1/chatbots/${id}/sessions`);
    expect([status, body.code]).toEqual([401, 'unauthorized']);
    expect(headers.get('www-authenticate')).toBe('Bearer realm="assistly"');
    expect(body.detail).toMatch(/signed in/);
    expect((await openWith(id, await vouch(secret, id))).status).toBe(201);
    expect((await before.guest.postMessage(before.session.id, 'Still here?')).reply.status).toBe('queued');
  });
});

describe('the secret', () => {
  it('is good for a day after the next was made, or ends at once', async () => {
    const { id, secret, owner } = await chatbotWithSecret();
    const rotate = async (body?: object) =>
      (await owner.post(`/v1/chatbots/${id}/identity-secret`, body)).body.secret;
    const statusWith = async (key: string) => (await openWith(id, await vouch(key, id))).status;
    const second = await rotate();
    expect([await statusWith(secret), await statusWith(second)]).toEqual([201, 201]);
    await stack.database.query(
      `update chatbots set previous_identity_secret_until = now() - interval '1 s' where id = $1`,
      [id],
    );
    expect([await statusWith(secret), await statusWith(second)]).toEqual([401, 201]);
    const third = await rotate({ revokePrevious: true });
    expect([await statusWith(second), await statusWith(third)]).toEqual([401, 201]);
    const seen = JSON.stringify([
      (await owner.get(`/v1/chatbots/${id}`)).body,
      (await owner.patch(`/v1/chatbots/${id}`, { name: 'B' })).body,
      (await owner.get('/v1/chatbots')).body,
    ]);
    expect(seen).not.toContain('ais_');
    expect((await owner.post(`/v1/chatbots/${id}/identity-secret`, { revokePrevious: 'yes' })).status).toBe(
      400,
    );
  });
});
