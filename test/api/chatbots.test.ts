import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ApiClient, Json } from '../support/api-client.js';
import { Stack } from '../support/stack.js';

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const NO_APPEARANCE = {
  color: null,
  avatarUrl: null,
  title: null,
  placeholder: null,
  suggestions: [],
  askFor: 'none',
};
/** Of a chatbot whose owner has said nothing else. */
const FACE = { isEnabled: true, requireIdentity: false, appearance: NO_APPEARANCE };

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
});
afterAll(() => stack.stop());

/** Waits until the database's clock shows another millisecond. */
async function nextMillisecond(): Promise<void> {
  await stack.database.query('select pg_sleep(0.002)');
}

describe('creating a chatbot', () => {
  it('takes a name, and gives everything else its default', async () => {
    const answer = await stack.owner('user_ada').post('/v1/chatbots', { name: 'Bakery' });

    expect(answer.status).toBe(201);
    expect(answer.headers.get('location')).toBe(`/v1/chatbots/${answer.body.id}`);
    expect(answer.body).toEqual({
      id: expect.stringMatching(UUID_V7),
      clerkUserId: 'user_ada',
      name: 'Bakery',
      greeting: null,
      model: null,
      instructions: null,
      ...FACE,
      sessionCount: 0,
      allowedOrigins: [],
      limits: null,
      retentionDays: null,
      dailyTokenBudget: null,
      unavailableMessage: null,
      createdAt: expect.stringMatching(TIME),
      updatedAt: expect.stringMatching(TIME),
      characteristicCount: 0,
      characteristics: [],
      promptTokens: 0,
      exceedsContext: false,
    });
  });

  it('takes all its fields: name and model are trimmed, contents are kept as sent', async () => {
    const answer = await stack.owner().post('/v1/chatbots', {
      name: '  Bakery \n',
      greeting: '  Hello {name}!\n',
      model: '\tgpt-5-mini ',
      characteristics: [' Open from 7 to 18. '],
    });

    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      name: 'Bakery',
      greeting: '  Hello {name}!\n',
      model: 'gpt-5-mini',
      characteristicCount: 1,
      characteristics: [
        {
          id: expect.stringMatching(UUID_V7),
          chatbotId: answer.body.id,
          content: ' Open from 7 to 18. ',
          createdAt: expect.stringMatching(TIME),
        },
      ],
    });
    expect(Object.keys(answer.body.characteristics[0]).sort()).toEqual([
      'chatbotId',
      'content',
      'createdAt',
      'id',
    ]);
  });

  it.each([[''], [' \n\t'], [null]])('takes the greeting and the model %j for none', async (nothing) => {
    const chatbot = await stack.owner().createChatbot({ name: 'Quiet', greeting: nothing, model: nothing });

    expect(chatbot).toMatchObject({ greeting: null, model: null });
  });

  it('keeps two hundred characteristics in the order in which they were given', async () => {
    const characteristics = Array.from({ length: 200 }, (_, i) => `fact ${i}`);

    const created = await stack.owner().createChatbot({ name: 'Expert', characteristics });

    const contents = (list: Json[]): string[] => list.map(({ content }) => content);
    expect(contents(created.characteristics)).toEqual(characteristics);
    const read = await stack.owner().get(`/v1/chatbots/${created.id}`);
    expect(contents(read.body.characteristics)).toEqual(characteristics);
    const first = await stack.owner().get(`/v1/chatbots/${created.id}/characteristics?limit=100`);
    const second = await stack
      .owner()
      .get(`/v1/chatbots/${created.id}/characteristics?limit=100&cursor=${first.body.nextCursor}`);
    expect(contents([...first.body.data, ...second.body.data])).toEqual(characteristics);
  });
});

describe('reading chatbots', () => {
  it('gives a chatbot as it was answered when it was created', async () => {
    const created = await stack
      .owner()
      .createChatbot({ name: 'Bakery', greeting: 'Hi', characteristics: ['a', 'b'] });

    const answer = await stack.owner().get(`/v1/chatbots/${created.id}`);

    expect(answer.status).toBe(200);
    expect(answer.body).toEqual(created);
  });

  it('finds it by its id in capitals too', async () => {
    const { id } = await stack.owner().createChatbot();

    const answer = await stack.owner().get(`/v1/chatbots/${id.toUpperCase()}`);

    expect(answer).toMatchObject({ status: 200, body: { id } });
  });

  it('lists one’s own, newest first, with the number of characteristics in place of them', async () => {
    const owner = stack.owner('user_lister');
    const made: Json[] = [];
    for (const characteristics of [[], ['a'], ['a', 'b', 'c']]) {
      made.unshift(await owner.createChatbot({ name: `has ${characteristics.length}`, characteristics }));
    }
    await stack.owner('user_other').createChatbot({ name: 'not the lister’s' });

    const answer = await owner.get('/v1/chatbots');

    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      data: made.map((chatbot) => ({ ...chatbot, characteristics: undefined })),
      nextCursor: null,
    });
    expect(answer.body.data.map((item: Json) => item.characteristicCount)).toEqual([3, 1, 0]);
  });

  it('shows the public exactly id, name, greeting and whether it is enabled', async () => {
    const { id } = await stack
      .owner()
      .createChatbot({ name: 'Bakery', greeting: 'Hello', model: 'gpt-5', characteristics: ['a secret'] });

    const answer = await stack.client().get(`/v1/chatbots/${id}/public`);

    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({ ...FACE, id, name: 'Bakery', greeting: 'Hello' });
  });

  it('shows the public a greeting of null where there is none', async () => {
    const { id } = await stack.owner().createChatbot();

    const answer = await stack.client().get(`/v1/chatbots/${id}/public`);

    expect(answer.body).toEqual({ ...FACE, id, name: 'Bakery', greeting: null });
  });
});

describe('instructions', () => {
  it('are kept as sent, shown to the owner alone, and cleared by null or a blank', async () => {
    const owner = stack.owner();
    const created = await owner.createChatbot({ name: 'Bakery', instructions: '  Be brief. ' });
    const path = `/v1/chatbots/${created.id}`;

    expect(created.instructions).toBe('  Be brief. ');
    expect((await stack.client().get(`${path}/public`)).body).not.toHaveProperty('instructions');
    expect((await owner.patch(path, { instructions: 'Be kind.' })).body.instructions).toBe('Be kind.');
    expect((await owner.patch(path, { name: 'Bakery' })).body.instructions).toBe('Be kind.');
    expect((await owner.patch(path, { instructions: ' \n' })).body.instructions).toBeNull();
  });
});

describe('a chatbot that is switched off', () => {
  it.each([null, 'no', 0, [], {}])('is not by %j', async (isEnabled) => {
    for (const answer of [
      await stack.owner().post('/v1/chatbots', { name: 'Bakery', isEnabled }),
      await stack.owner().patch(`/v1/chatbots/${(await stack.owner().createChatbot()).id}`, { isEnabled }),
    ]) {
      expect(answer.status).toBe(400);
      expect(answer.body.errors).toEqual([{ pointer: '/isEnabled', message: 'must be true or false' }]);
    }
  });

  it('takes no session, no message and no retry, not even an owner’s; all else goes on, and a repetition is answered', async () => {
    const owner = stack.owner();
    const chatbot = await owner.createChatbot();
    const path = `/v1/chatbots/${chatbot.id}`;
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const messages = `/v1/sessions/${session.id}/messages`;
    const key = { 'idempotency-key': 'before' };
    const { body: posted } = await guest.post(messages, { content: 'Hello?' }, key);

    await owner.patch(path, { isEnabled: false });

    for (const refused of [
      await stack.client().post(`${path}/sessions`, {}),
      await guest.post(messages, { content: 'Still there?' }),
      await owner.post(messages, { content: 'Still there?' }),
    ]) {
      expect([refused.status, refused.body.code]).toEqual([403, 'chatbot_disabled']);
    }
    expect(await guest.post(messages, { content: 'Hello?' }, key)).toMatchObject({
      status: 202,
      body: { message: { id: posted.message.id } },
    });
    expect((await guest.get(messages)).body.data).toHaveLength(1);
    const { body: cancelled } = await guest.post(`/v1/replies/${posted.reply.id}/cancel`);
    expect(cancelled.status).toBe('cancelled');
    for (const caller of [guest, owner]) {
      const refused = await caller.post(`/v1/replies/${posted.reply.id}/retry`);
      expect([refused.status, refused.body.code]).toEqual([403, 'chatbot_disabled']);
    }

    await owner.patch(path, { isEnabled: true });
    expect((await guest.post(messages, { content: 'And now?' })).status).toBe(202);
  });
});

describe('a body as large as all limits together', () => {
  /** Twelve bytes in JSON, and one character. */
  const escaped = '\\ud83d\\ude00';

  it('makes a chatbot, whatever way its characters are written', async () => {
    const owner = stack.owner('user_of_large_bodies');
    for (const character of ['x', '漢', '😀', escaped]) {
      const text = (length: number): string => `"${character.repeat(length)}"`;
      const facts = Array.from({ length: 200 }, () => text(8_000)).join(', ');
      const body = `{ "name": ${text(255)}, "greeting": ${text(2_000)}, "model": ${text(255)}, "instructions": ${text(8_000)}, "characteristics": [${facts}] }`;
      const answer = await owner.request('POST', '/v1/chatbots', {
        headers: { 'content-type': 'application/json' },
        body,
      });
      expect(answer.status).toBe(201);
      expect(answer.body.characteristicCount).toBe(200);
      expect([...answer.body.characteristics[199].content]).toHaveLength(8_000);
      expect((await owner.delete(`/v1/chatbots/${answer.body.id}`)).status).toBe(204);
    }
  });

  it('is refused one byte further, and elsewhere at 128 KiB', async () => {
    const owner = stack.owner('user_of_large_bodies');
    const { id } = await owner.createChatbot();
    const large = await owner.post('/v1/chatbots', {
      name: 'Library',
      characteristics: ['x'.repeat(22_000_000)],
    });
    expect([large.status, large.body.code]).toEqual([413, 'payload_too_large']);
    const content = 'x'.repeat(130 * 1024);
    expect((await owner.post(`/v1/chatbots/${id}/characteristics`, { content })).status).toBe(413);
  });
});

describe('changing a chatbot', () => {
  let chatbot: Json;
  beforeAll(async () => {
    chatbot = await stack.owner().createChatbot({
      name: 'Bakery',
      greeting: 'Hello',
      model: 'gpt-5',
      characteristics: ['Open from 7 to 18.'],
    });
  });
  const patch = (body: unknown) => stack.owner().patch(`/v1/chatbots/${chatbot.id}`, body);

  it('changes what is named, leaves the rest, and moves updatedAt alone of the times', async () => {
    await nextMillisecond();

    const answer = await patch({ name: '  Pastry shop ' });

    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({ ...chatbot, name: 'Pastry shop', updatedAt: expect.stringMatching(TIME) });
    expect(answer.body.updatedAt > chatbot.updatedAt).toBe(true);
    expect((await stack.owner().get(`/v1/chatbots/${chatbot.id}`)).body).toEqual(answer.body);
  });

  it.each([[null], [''], [' \n ']])('clears the greeting and the model with %j', async (nothing) => {
    await patch({ greeting: 'Hello', model: 'gpt-5' });

    const answer = await patch({ greeting: nothing, model: nothing });

    expect(answer).toMatchObject({ status: 200, body: { greeting: null, model: null } });
  });

  it.each([[null], [''], [' \n ']])('refuses the name %j', async (nothing) => {
    const answer = await patch({ name: nothing, greeting: 'is not stored either' });

    expect(answer).toMatchObject({
      status: 400,
      body: { code: 'invalid_request', errors: [{ pointer: '/name' }] },
    });
    const read = await stack.owner().get(`/v1/chatbots/${chatbot.id}`);
    expect(read.body.greeting).not.toBe('is not stored either');
  });

  it('changes nothing with an empty body, not even updatedAt', async () => {
    const before = (await stack.owner().get(`/v1/chatbots/${chatbot.id}`)).body;
    await nextMillisecond();

    const answers = [await patch({}), await stack.owner().request('PATCH', `/v1/chatbots/${chatbot.id}`)];

    for (const answer of answers) expect(answer).toMatchObject({ status: 200, body: before });
  });
});

describe('the characteristics of a chatbot', () => {
  let chatbotId: string;
  let path: string;
  beforeAll(async () => {
    ({ id: chatbotId } = await stack.owner().createChatbot({ name: 'Bakery', characteristics: ['first'] }));
    path = `/v1/chatbots/${chatbotId}/characteristics`;
  });

  it('are added at the end, and counted', async () => {
    const answer = await stack.owner().post(path, { content: ' second, kept as sent ' });

    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      id: expect.stringMatching(UUID_V7),
      chatbotId,
      content: ' second, kept as sent ',
      createdAt: expect.stringMatching(TIME),
    });
    const list = await stack.owner().get(path);
    expect(list.status).toBe(200);
    expect(list.body.data.map(({ content }: Json) => content)).toEqual(['first', ' second, kept as sent ']);
    expect(list.body.nextCursor).toBeNull();
    const chatbot = await stack.owner().get(`/v1/chatbots/${chatbotId}`);
    expect(chatbot.body.characteristicCount).toBe(2);
  });

  it('are changed in place', async () => {
    const { body: added } = await stack.owner().post(path, { content: 'old' });

    const answer = await stack.owner().patch(`${path}/${added.id}`, { content: 'new' });

    expect(answer).toMatchObject({ status: 200, body: { ...added, content: 'new' } });
    const list = await stack.owner().get(path);
    expect(list.body.data.at(-1)).toEqual({ ...added, content: 'new' });
  });

  it('are deleted, and then gone', async () => {
    const { body: added } = await stack.owner().post(path, { content: 'short-lived' });

    const answer = await stack.owner().delete(`${path}/${added.id}`);

    expect(answer).toMatchObject({ status: 204, body: null });
    expect((await stack.owner().delete(`${path}/${added.id}`)).status).toBe(404);
    expect((await stack.owner().patch(`${path}/${added.id}`, { content: 'x' })).status).toBe(404);
    const list = await stack.owner().get(path);
    expect(list.body.data.map(({ id }: Json) => id)).not.toContain(added.id);
  });

  it('are reached through their own chatbot only', async () => {
    const { body: added } = await stack.owner().post(path, { content: 'mine' });
    const another = await stack.owner().createChatbot();

    const answers = [
      await stack
        .owner()
        .patch(`/v1/chatbots/${another.id}/characteristics/${added.id}`, { content: 'moved' }),
      await stack.owner().delete(`/v1/chatbots/${another.id}/characteristics/${added.id}`),
    ];

    expect(answers.map(({ status }) => status)).toEqual([404, 404]);
    const list = await stack.owner().get(path);
    expect(list.body.data).toContainEqual(added);
  });

  it('are at most two hundred: the one too many is refused, until there is room', async () => {
    const characteristics = Array.from({ length: 200 }, (_, i) => `fact ${i}`);
    const full = await stack.owner().createChatbot({ name: 'Full', characteristics });
    const add = () => stack.owner().post(`/v1/chatbots/${full.id}/characteristics`, { content: 'one more' });

    const refused = await add();

    expect(refused).toMatchObject({ status: 409, body: { code: 'limit_reached' } });
    await stack.owner().delete(`/v1/chatbots/${full.id}/characteristics/${full.characteristics[0].id}`);
    expect((await add()).status).toBe(201);
  });

  it('are at most two hundred also when ten are added at once', async () => {
    const characteristics = Array.from({ length: 195 }, (_, i) => `fact ${i}`);
    const { id } = await stack.owner().createChatbot({ name: 'Nearly full', characteristics });

    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        stack.owner().post(`/v1/chatbots/${id}/characteristics`, { content: `late ${i}` }),
      ),
    );

    expect(answers.filter(({ status }) => status === 201)).toHaveLength(5);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(5);
    expect((await stack.owner().get(`/v1/chatbots/${id}`)).body.characteristicCount).toBe(200);
  });
});

describe('deleting a chatbot', () => {
  it('takes everything below it, and nothing beside it', async () => {
    const rowCounts = async (): Promise<Json> => {
      const [counts] = await stack.database.query(
        `select (select count(*)::int from chatbots) as chatbots,
           (select count(*)::int from chatbot_characteristics) as characteristics,
           (select count(*)::int from chat_sessions) as sessions, (select count(*)::int from guests) as guests,
           (select count(*)::int from messages) as messages, (select count(*)::int from replies) as replies`,
      );
      return counts;
    };
    const withSessions = async (): Promise<string> => {
      const { id } = await stack
        .owner()
        .createChatbot({ name: 'Bakery', greeting: 'Hi', characteristics: ['a'] });
      for (const guest of [{ name: 'Ada' }, null]) {
        const opened = await stack.client().openSession(id, { guest });
        await opened.guest.postMessage(opened.session.id, 'When are you open?');
      }
      return id;
    };
    await withSessions();
    const before = await rowCounts();
    const id = await withSessions();
    expect(await rowCounts()).toEqual({
      chatbots: before.chatbots + 1,
      characteristics: before.characteristics + 1,
      sessions: before.sessions + 2,
      guests: before.guests + 1,
      messages: before.messages + 4,
      replies: before.replies + 2,
    });

    const answer = await stack.owner().delete(`/v1/chatbots/${id}`);

    expect(answer).toMatchObject({ status: 204, body: null });
    expect(await rowCounts()).toEqual(before);
  });

  it('leaves nothing to be found', async () => {
    const { id } = await stack.owner().createChatbot();
    await stack.owner().delete(`/v1/chatbots/${id}`);

    const answers = [
      await stack.owner().get(`/v1/chatbots/${id}`),
      await stack.owner().patch(`/v1/chatbots/${id}`, {}),
      await stack.owner().delete(`/v1/chatbots/${id}`),
      await stack.owner().get(`/v1/chatbots/${id}/sessions`),
      await stack.owner().get(`/v1/chatbots/${id}/characteristics`),
      await stack.owner().post(`/v1/chatbots/${id}/characteristics`, { content: 'x' }),
      await stack.client().get(`/v1/chatbots/${id}/public`),
      await stack.client().post(`/v1/chatbots/${id}/sessions`),
    ];

    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 404));
  });
});

describe('the appearance of a chatbot', () => {
  const owner = (): ApiClient => stack.owner();
  const FULL = {
    color: '#0A7f5a',
    avatarUrl: 'https://www.example.com/a.png?size=2',
    title: 'Ask the baker',
    placeholder: 'Your question',
    suggestions: ['When are you open?', 'Do you bake rye bread?'],
    askFor: 'required',
  };

  it('is public, changed field by field, and cleared by null or a blank', async () => {
    const plain = await owner().createChatbot({ name: 'Bakery' });
    expect(plain.appearance).toEqual(NO_APPEARANCE);
    const { id, appearance } = await owner().createChatbot({ name: 'Bakery', appearance: FULL });
    expect(appearance).toEqual(FULL);
    expect((await stack.client().get(`/v1/chatbots/${id}/public`)).body.appearance).toEqual(FULL);
    const change = async (changed: object) =>
      (await owner().patch(`/v1/chatbots/${id}`, { appearance: changed })).body.appearance;
    expect(await change({ title: 'Baker', color: null })).toEqual({ ...FULL, title: 'Baker', color: null });
    expect(await change({})).toEqual({ ...FULL, title: 'Baker', color: null });
    const blank = { title: ' ', avatarUrl: '', placeholder: '', askFor: '', suggestions: null };
    expect(await change(blank)).toEqual(NO_APPEARANCE);
  });

  it.each([
    ['color', 'red'],
    ['color', '#fff'],
    ['color', '#12345g'],
    ['avatarUrl', 'http://www.example.com/a.png'],
    ['avatarUrl', 'javascript:alert(1)'],
    ['avatarUrl', 'https://user:secret@example.com/a.png'],
    ['avatarUrl', `https://www.example.com/${'x'.repeat(2_048)}`],
    ['title', 'x'.repeat(101)],
    ['title', 'a\nb'],
    ['placeholder', 7],
    ['suggestions', 'Hi'],
    ['suggestions', ['']],
    ['suggestions', Array(7).fill('x')],
    ['suggestions', ['x'.repeat(201)]],
    ['askFor', 'maybe'],
    ['font', 'serif'],
  ])('cannot have the %s %j', async (field, value) => {
    const { status, body } = await owner().post('/v1/chatbots', {
      name: 'B',
      appearance: { [field]: value },
    });
    expect([status, body.errors?.[0]?.pointer]).toEqual([400, `/appearance/${field}`]);
  });

  it.each([null, 'dark', [], 7])('cannot be %j', async (appearance) => {
    const { status, body } = await owner().post('/v1/chatbots', { name: 'B', appearance });
    expect([status, body.errors?.[0]?.pointer]).toEqual([400, '/appearance']);
  });
});
