import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { ApiClient, Json } from '../support/api-client.js';
import { newQuestion } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** What an owner does with the people who talked with its chatbots: finds, exports and erases them. */

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test', OPENAI_MODEL: 'ok' },
    timings: { reconcileIntervalMs: 20 }, // what is done once a minute is done twice a second
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

let owners = 0;
const newOwner = (): ApiClient => stack.owner(`user_people_${++owners}`);

async function visit(chatbotId: string, email: string | null, name: string | null = null): Promise<Json> {
  const { body } = await stack
    .client()
    .post(`/v1/chatbots/${chatbotId}/sessions`, { guest: { email, name } });
  const guest = stack.client().as(body.token);
  const question = newQuestion();
  const { reply } = await guest.postMessage(body.session.id, question);
  await guest.finalReply(reply.id);
  return { ...body, client: guest, question, replyId: reply.id };
}

const statusOf = async (client: ApiClient, sessionId: string): Promise<number> =>
  (await client.get(`/v1/sessions/${sessionId}`)).status;

describe('the guests of a chatbot', () => {
  it('are listed newest first, with their sessions counted, and found by their address in any case', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery' });
    const { id: other } = await owner.createChatbot({ name: 'Butcher' });
    for (const [email, name] of [
      ['ada@example.com', 'Ada'],
      ['Ada@Example.com', null],
      ['bob@example.com', 'Bob'],
      [null, 'Nobody'],
    ] as const) {
      await stack.client().post(`/v1/chatbots/${id}/sessions`, { guest: { email, name } });
    }
    await stack.client().post(`/v1/chatbots/${other}/sessions`, { guest: { email: 'ada@example.com' } });
    await stack.client().post(`/v1/chatbots/${id}/sessions`, {});

    const { body: all } = await owner.get(`/v1/chatbots/${id}/guests`);
    expect(all.data.map(({ name, email }: Json) => [name, email])).toEqual([
      ['Nobody', null],
      ['Bob', 'bob@example.com'],
      [null, 'Ada@Example.com'],
      ['Ada', 'ada@example.com'],
    ]);
    expect(all.data[0]).toEqual({
      id: expect.any(String),
      name: 'Nobody',
      email: null,
      createdAt: expect.any(String),
      externalId: null,
      sessionCount: 1,
    });
    const { body: found } = await owner.get(`/v1/chatbots/${id}/guests?email=ADA%40example.com&limit=1`);
    expect(found.data.map(({ email }: Json) => email)).toEqual(['Ada@Example.com']);
    const { body: rest } = await owner.get(
      `/v1/chatbots/${id}/guests?email=ada%40example.com&cursor=${found.nextCursor}`,
    );
    expect(rest).toMatchObject({ data: [{ email: 'ada@example.com' }], nextCursor: null });
    const foreign = await owner.get(
      `/v1/chatbots/${id}/guests?email=bob%40example.com&cursor=${found.nextCursor}`,
    );
    expect(foreign.body.code).toBe('invalid_cursor');
    expect((await newOwner().get(`/v1/chatbots/${id}/guests`)).status).toBe(404);
    expect((await owner.get(`/v1/chatbots/${id}/guests?email=a&email=b`)).status).toBe(400);
    expect((await owner.get(`/v1/chatbots/${id}/guests?email=${'x'.repeat(256)}`)).status).toBe(400);
    expect((await owner.get(`/v1/chatbots/${id}/guests?email=%25`)).body.data).toEqual([]);
  });

  it('are known to be of it also where an older version lets them in', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery' });
    const [guestId, sessionId] = [randomUUID(), randomUUID()];
    await stack.database.query(`insert into guests (id, name) values ($1, 'Old')`, [guestId]);
    await stack.database.query(
      `insert into chat_sessions (id, chatbot_id, guest_id, token_hash, event_token_key) values ($1, $2, $3, $4, 'x')`,
      [sessionId, id, guestId, randomUUID()],
    );

    expect((await owner.get(`/v1/chatbots/${id}/guests`)).body.data).toMatchObject([{ id: guestId }]);
  });
});

describe('an export of a guest', () => {
  it('holds everything that is stored about it, and nothing of another', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery', greeting: 'Hello {name}!' });
    const ada = await visit(id, 'ada@example.com', 'Ada');
    await visit(id, 'bob@example.com', 'Bob');

    const answer = await owner.get(`/v1/guests/${ada.session.guest.id}/export`);

    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
    expect(answer.headers.get('content-disposition')).toBe(
      `attachment; filename=guest-${ada.session.guest.id}.json`,
    );
    expect(Object.keys(answer.body)).toEqual(['guest', 'sessions', 'messages', 'replies']);
    expect(answer.body.guest).toMatchObject({ name: 'Ada', email: 'ada@example.com' });
    expect(answer.body.sessions).toMatchObject([{ id: ada.session.id, chatbotId: id, messageCount: 3 }]);
    expect(answer.body.messages.map(({ content }: Json) => content)).toEqual([
      'Hello Ada!',
      ada.question,
      answerTo(ada.question),
    ]);
    expect(answer.body.replies).toMatchObject([{ id: ada.replyId, status: 'completed' }]);
    expect((await newOwner().get(`/v1/guests/${ada.session.guest.id}/export`)).status).toBe(404);
  });

  it('is whole also where it is read in many pieces', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery' });
    const ada = await visit(id, 'ada@example.com');
    await stack.database.query(
      `insert into messages (id, chat_session_id, sequence, sender, content)
       select gen_random_uuid(), $1, 2 + n, 'user', 'message "' || n || '"' from generate_series(1, 1300) n`,
      [ada.session.id],
    );

    const { body } = await owner.get(`/v1/guests/${ada.session.guest.id}/export`);

    expect(body.messages).toHaveLength(1_302);
    expect(new Set(body.messages.map((message: Json) => message.id)).size).toBe(1_302);
  });
});

describe('erasing a person', () => {
  it('by address takes every guest of all chatbots of the owner, whatever its case, and nobody else’s', async () => {
    const [owner, other] = [newOwner(), newOwner()];
    const [one, two] = [
      await owner.createChatbot({ name: 'One' }),
      await owner.createChatbot({ name: 'Two' }),
    ];
    const foreign = await other.createChatbot({ name: 'Foreign' });
    const gone = [
      await visit(one.id, 'ada@example.com'),
      await visit(one.id, 'ADA@example.com'),
      await visit(two.id, 'Ada@Example.COM'),
    ];
    const stay = [await visit(one.id, 'adam@example.com'), await visit(foreign.id, 'ada@example.com')];

    const { status, body } = await owner.post('/v1/erasures', { email: ' aDa@example.com ' });

    expect([status, body]).toEqual([200, { guests: 3, sessions: 3 }]);
    for (const { client, session } of gone) expect(await statusOf(client, session.id)).toBe(401);
    for (const { client, session } of stay) expect(await statusOf(client, session.id)).toBe(200);
    expect((await owner.post('/v1/erasures', { email: 'ada@example.com' })).body).toEqual({
      guests: 0,
      sessions: 0,
    });
  });

  it('by the owner’s own id takes that person of that chatbot', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery' });
    const [ada, bob] = [await visit(id, 'ada@example.com'), await visit(id, 'bob@example.com')];
    await stack.database.query(`update guests set external_id = 'customer 7' where id = $1`, [
      ada.session.guest.id,
    ]);
    const person = { chatbotId: id, externalId: 'customer 7' };
    expect((await newOwner().post('/v1/erasures', person)).body).toEqual({ guests: 0, sessions: 0 });

    expect((await owner.post('/v1/erasures', person)).body).toEqual({ guests: 1, sessions: 1 });

    expect(await statusOf(ada.client, ada.session.id)).toBe(401);
    expect(await statusOf(bob.client, bob.session.id)).toBe(200);
  });

  it('takes hundreds who came back', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery' });
    const opened = Array.from({ length: 250 }, () =>
      stack.client().post(`/v1/chatbots/${id}/sessions`, { guest: { email: 'often@example.com' } }),
    );
    await Promise.all(opened);

    expect((await owner.post('/v1/erasures', { email: 'often@example.com' })).body).toEqual({
      guests: 250,
      sessions: 250,
    });
    expect((await owner.get(`/v1/chatbots/${id}/guests`)).body.data).toEqual([]);
  });

  it.each([
    [{}],
    [{ email: '' }],
    [{ email: null }],
    [{ email: 7 }],
    [{ email: 'a@example.com', externalId: 'x' }],
    [{ externalId: 'x' }],
    [{ chatbotId: randomUUID() }],
    [{ chatbotId: 'x', externalId: 'x' }],
    [{ chatbotId: randomUUID(), externalId: 'x', email: 'a@example.com' }],
    [{ name: 'Ada' }],
  ])('needs to know whom: not by %j', async (body) => {
    expect(await newOwner().post('/v1/erasures', body)).toMatchObject({
      status: 400,
      body: { code: 'invalid_request' },
    });
  });
});

describe('sessions without activity', () => {
  const age = (sessionId: string, days: number): Promise<unknown> =>
    stack.database.query(
      `update chat_sessions set active_at = clock_timestamp() - $2 * interval '1 day' where id = $1`,
      [sessionId, days],
    );

  it('are erased after as many days as the owner says, with their guests, and others stay', async () => {
    const owner = newOwner();
    const { id } = await owner.createChatbot({ name: 'Bakery', retentionDays: 30 });
    const forever = await owner.createChatbot({ name: 'Archive' });
    const [old, young, kept] = [
      await visit(id, 'old@example.com'),
      await visit(id, 'young@example.com'),
      await visit(forever.id, 'kept@example.com'),
    ];
    await age(old.session.id, 31);
    await age(young.session.id, 29);
    await age(kept.session.id, 4_000);

    await waitFor('the old one to go', async () => (await statusOf(old.client, old.session.id)) === 401);

    expect(await statusOf(young.client, young.session.id)).toBe(200);
    expect(await statusOf(kept.client, kept.session.id)).toBe(200);
    const { body } = await owner.get(`/v1/chatbots/${id}/guests`);
    expect(body.data.map(({ email }: Json) => email)).toEqual(['young@example.com']);
  });

  it('are kept no longer than the operator allows', async () => {
    const strict = await Stack.start({
      workers: 0,
      env: { RETENTION_DAYS_MAX: '10' },
      timings: { reconcileIntervalMs: 20 },
    });
    try {
      const owner = strict.owner();
      const { id } = await owner.createChatbot({ name: 'Bakery' });
      const few = await owner.createChatbot({ name: 'Few', retentionDays: 5 });
      const sessions: Json[] = [];
      for (const [chatbotId, days] of [
        [id, 11],
        [id, 9],
        [few.id, 6],
        [few.id, 4],
      ]) {
        const opened = await strict.client().openSession(chatbotId as string);
        await strict.database.query(
          `update chat_sessions set active_at = clock_timestamp() - $2 * interval '1 day' where id = $1`,
          [opened.session.id, days],
        );
        sessions.push(opened);
      }
      const statuses = (): Promise<number[]> =>
        Promise.all(sessions.map(({ guest, session }) => statusOf(guest, session.id)));
      await waitFor(
        'two to go',
        async () => (await statuses()).filter((status) => status === 401).length === 2,
      );

      expect(await statuses()).toEqual([401, 200, 401, 200]);
      const { status, body } = await owner.post('/v1/chatbots', { name: 'Long', retentionDays: 11 });
      expect(status).toBe(400);
      expect(body.errors).toEqual([
        { pointer: '/retentionDays', message: 'must be at most 10 on this server' },
      ]);
    } finally {
      await strict.stop();
    }
  });
});
