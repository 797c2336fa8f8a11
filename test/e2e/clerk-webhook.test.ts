import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import type { Json } from '../support/api-client.js';
import { signEvent, userDeleted } from '../support/clerk-webhook.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** An owner who is deleted at Clerk is erased here. */

const KEY = randomBytes(24);
const CLERK_WEBHOOK_SECRET = `whsec_${KEY.toString('base64')}`;

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    workers: 0,
    env: { CLERK_WEBHOOK_SECRET },
    timings: { reconcileIntervalMs: 100 },
  });
});
afterAll(() => stack.stop());

interface Sent {
  id?: string;
  ageSeconds?: number;
  key?: Buffer;
  headers?: Record<string, string>;
  url?: string;
}

async function send(event: unknown, sent: Sent = {}): Promise<{ status: number; body: Json }> {
  const { id, ageSeconds = 0, key = KEY, url = stack.apis[0]!.url } = sent;
  const { headers, body } = signEvent(event, { key, id, ageSeconds });
  const response = await fetch(`${url}/v1/webhooks/clerk`, {
    method: 'POST',
    headers: { ...headers, ...sent.headers },
    body,
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? null : JSON.parse(text) };
}

let owners = 0;
/** An owner with chatbots and sessions, and whether they are there. */
async function newOwner(): Promise<{
  id: string;
  chatbots: () => Promise<number>;
  statuses: () => Promise<number[]>;
}> {
  const id = `user_webhook_${++owners}`;
  const owner = stack.owner(id);
  const sessions: Json[] = [];
  for (let n = 0; n < 2; n++) {
    const { id: chatbotId } = await owner.createChatbot({ name: `Chatbot ${n}` });
    for (let m = 0; m < 3; m++) sessions.push(await stack.client().openSession(chatbotId));
  }
  return {
    id,
    chatbots: async () => (await owner.get('/v1/chatbots')).body.data.length,
    statuses: () =>
      Promise.all(
        sessions.map(async ({ guest, session }) => (await guest.get(`/v1/sessions/${session.id}`)).status),
      ),
  };
}

describe('user.deleted', () => {
  it('erases all that the owner has, and nothing of others', async () => {
    const [gone, other] = [await newOwner(), await newOwner()];

    expect(await send(userDeleted(gone.id))).toEqual({ status: 204, body: null });

    await waitFor('all to go', async () => (await gone.chatbots()) === 0);
    expect(await gone.statuses()).toEqual([401, 401, 401, 401, 401, 401]);
    expect(await other.chatbots()).toBe(2);
    expect(await other.statuses()).toEqual([200, 200, 200, 200, 200, 200]);
    await waitFor('nothing to be left to do', async () => {
      const rows = await stack.database.query('select 1 from owner_erasures');
      return rows.length === 0;
    });
  });

  it('has no effect when it is told again', async () => {
    const owner = await newOwner();
    const id = 'msg_told_twice';
    await send(userDeleted(owner.id), { id });
    await waitFor('all to go', async () => (await owner.chatbots()) === 0);
    await stack.owner(owner.id).createChatbot();

    expect((await send(userDeleted(owner.id), { id })).status).toBe(204);

    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await owner.chatbots()).toBe(1);
  });

  it('is carried on by the reconciler where the process that took it died', async () => {
    const owner = await newOwner();
    await stack.database.query('insert into owner_erasures (clerk_user_id) values ($1)', [owner.id]);

    await waitFor('all to go', async () => (await owner.chatbots()) === 0);
  });
});

describe('what is not told by Clerk', () => {
  const EVENT = userDeleted('user_of_nobody');

  it.each<[string, Sent]>([
    ['signed by another', { key: randomBytes(24) }],
    ['older than five minutes', { ageSeconds: 301 }],
    ['of the future', { ageSeconds: -400 }],
    ['without a signature', { headers: { 'svix-signature': '' } }],
    ['with a signature of something else', { headers: { 'svix-id': 'msg_other' } }],
    ['with a time that is none', { headers: { 'svix-timestamp': 'now' } }],
  ])('is refused: %s', async (_, sent) => {
    const owner = await newOwner();

    expect(await send(userDeleted(owner.id), sent)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    });
    expect(await owner.chatbots()).toBe(2);
  });

  it('is refused where the body is no JSON, or not all of what was signed', async () => {
    expect((await send('{"type":')).body.code).toBe('malformed_json');
    expect((await send('[]')).status).toBe(400);
  });

  it('has no route where no secret is set', async () => {
    const { url } = await stack.addApi({ CLERK_WEBHOOK_SECRET: '' });

    expect(await send(EVENT, { url })).toMatchObject({ status: 404, body: { code: 'not_found' } });
  });
});

describe('other events', () => {
  it.each([
    [
      {
        type: 'user.created',
        object: 'event',
        data: { id: 'user_1', object: 'user', unknown: [1, { a: null }] },
      },
    ],
    [{ type: 'user.deleted', object: 'event', data: { object: 'user', deleted: true } }],
    [{ type: 'user.deleted', object: 'event', data: { id: '' } }],
    [{ type: 'user.deleted', object: 'event', data: { id: 7 } }],
  ])('are taken, and change nothing: %j', async (event) => {
    expect((await send(event)).status).toBe(204);
  });
});
