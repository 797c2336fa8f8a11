import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Json } from '../support/api-client.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { TestRedis } from '../support/test-redis.js';
import { waitFor } from '../support/wait.js';

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({ env: { OPENAI_BASE_URL: provider.baseUrl } });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

describe('opening a session', () => {
  let chatbot: Json;
  beforeAll(async () => {
    chatbot = await stack.owner().createChatbot({ name: 'Bakery', greeting: 'Hello {name}! {name}?' });
  });
  const open = (body?: unknown, chatbotId: string = chatbot.id) =>
    stack.client().post(`/v1/chatbots/${chatbotId}/sessions`, body);

  it.each([
    ['no body and no Content-Type', undefined],
    ['an empty object', {}],
    ['a guest of null', { guest: null }],
    ['a guest that tells nothing', { guest: {} }],
    ['a guest that tells blanks and nulls', { guest: { name: ' \n', email: null } }],
  ])('is anonymous with %s', async (_, body) => {
    const answer = await open(body);

    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      session: {
        id: expect.stringMatching(UUID_V7),
        chatbotId: chatbot.id,
        chatbotName: 'Bakery',
        guest: null,
        createdAt: expect.stringMatching(TIME),
        lastMessageAt: expect.stringMatching(TIME),
        messageCount: 1,
      },
      token: expect.stringMatching(/^\S{32,}$/),
      messages: [
        {
          id: expect.stringMatching(UUID_V7),
          chatSessionId: answer.body.session.id,
          sequence: 1,
          sender: 'ai',
          content: 'Hello ! ?',
          replyId: null,
          createdAt: expect.stringMatching(TIME),
          clientMessageId: null,
          supersededBy: null,
        },
      ],
    });
    expect(answer.headers.get('x-event-cursor')).toMatch(/^\S+$/);
  });

  it('keeps a guest’s name and e-mail address, trimmed, and greets by name', async () => {
    const answer = await open({ guest: { name: ' Ada Lovelace ', email: '\tada@example.com\n' } });

    expect(answer.status).toBe(201);
    expect(answer.body.session.guest).toEqual({
      id: expect.stringMatching(UUID_V7),
      name: 'Ada Lovelace',
      email: 'ada@example.com',
      createdAt: expect.stringMatching(TIME),
      externalId: null,
    });
    expect(answer.body.messages[0].content).toBe('Hello Ada Lovelace! Ada Lovelace?');
  });

  it('greets a guest who told only an e-mail address without a name', async () => {
    const answer = await open({ guest: { email: 'ada@example.com' } });

    expect(answer.body).toMatchObject({
      session: { guest: { name: null, email: 'ada@example.com' } },
      messages: [{ content: 'Hello ! ?' }],
    });
  });

  it('puts a name into the greeting as it is, whatever signs are in it', async () => {
    const answer = await open({ guest: { name: "$& $1 $' {name}" } });

    expect(answer.body.messages[0].content).toBe("Hello $& $1 $' {name}! $& $1 $' {name}?");
  });

  it.each([[null], ['{name}']])('begins without a message where the greeting is %j', async (greeting) => {
    const { id } = await stack.owner().createChatbot({ name: 'Quiet', greeting });

    const answer = await open(undefined, id);

    expect(answer).toMatchObject({
      status: 201,
      body: { messages: [], session: { lastMessageAt: null, messageCount: 0 } },
    });
  });

  it('gives a cursor from which the session’s first events are seen', async () => {
    const answer = await open();
    const guest = stack.client().as(answer.body.token);
    await guest.postMessage(answer.body.session.id, 'Hello?');

    const stream = guest.follow(answer.body.session.id, {
      after: answer.headers.get('x-event-cursor') ?? '',
    });

    await stream.next('message.created');
    expect(stream.events[0]).toMatchObject({ event: 'message.created', data: { message: { sequence: 2 } } });
    await stream.close();
  });

  it('stores only the hash of the token', async () => {
    const { token, session } = (await open({ guest: { name: 'Ada' } })).body;

    const tables = await stack.database.query<{ table_schema: string; table_name: string }>(
      `select table_schema, table_name from information_schema.tables
       where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`,
    );
    for (const { table_schema, table_name } of tables) {
      const hits = await stack.database.query(
        `select 1 from "${table_schema}"."${table_name}" t where strpos(t::text, $1) > 0`,
        [token.slice(4)],
      );
      expect([table_name, hits]).toEqual([table_name, []]);
    }
    const [row] = await stack.database.query<{ token_hash: string }>(
      'select token_hash from chat_sessions where id = $1',
      [session.id],
    );
    expect(row?.token_hash).toBe(createHash('sha256').update(token).digest('hex'));
  });

  it('gives each session a token of its own, of at least 128 random bits', async () => {
    const tokens = await Promise.all(Array.from({ length: 20 }, async () => (await open()).body.token));

    expect(new Set(tokens).size).toBe(20);
    for (const token of tokens) expect(token).toMatch(/^ast_[\w-]{43}$/);
  });
});

describe('reading sessions', () => {
  it('shows the guest and the owner the same session, which follows the conversation', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery', greeting: 'Hi' });
    const { session, guest } = await stack.client().openSession(id, { guest: { name: 'Ada' } });
    expect((await guest.get(`/v1/sessions/${session.id}`)).body).toEqual(session);
    const { reply } = await guest.postMessage(session.id, 'When are you open?');
    await guest.finalReply(reply.id);

    const answers = [
      await guest.get(`/v1/sessions/${session.id}`),
      await stack.owner().get(`/v1/sessions/${session.id}`),
    ];

    const newest = (await guest.messages(session.id)).at(-1);
    for (const { status, body } of answers) {
      expect(status).toBe(200);
      expect(body).toEqual({ ...session, messageCount: 3, lastMessageAt: newest!.createdAt });
      expect(body.lastMessageAt > session.lastMessageAt).toBe(true);
    }
  });

  it('shows the new name of a chatbot', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Old' });
    const { session, guest } = await stack.client().openSession(id);
    await stack.owner().patch(`/v1/chatbots/${id}`, { name: 'New' });

    const answer = await guest.get(`/v1/sessions/${session.id}`);

    expect(answer.body.chatbotName).toBe('New');
  });

  it('lists a chatbot’s sessions for its owner, most recently active first', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery' });
    const first = await stack.client().openSession(id, { guest: { name: 'First' } });
    const second = await stack.client().openSession(id);
    const third = await stack.client().openSession(id);
    const ids = async (): Promise<string[]> => {
      const list = await stack.owner().get(`/v1/chatbots/${id}/sessions`);
      expect(list.status).toBe(200);
      return list.body.data.map((session: Json) => session.id);
    };
    expect(await ids()).toEqual([third.session.id, second.session.id, first.session.id]);

    const { reply } = await first.guest.postMessage(first.session.id, 'Me again');

    expect(await ids()).toEqual([first.session.id, third.session.id, second.session.id]);
    await first.guest.finalReply(reply.id);
    const list = await stack.owner().get(`/v1/chatbots/${id}/sessions`);
    expect(list.body).toEqual({
      data: [(await first.guest.get(`/v1/sessions/${first.session.id}`)).body, third.session, second.session],
      nextCursor: null,
    });
  });

  it('lets the owner post into a session, as a user', async () => {
    const { id } = await stack.owner().createChatbot({ name: 'Bakery' });
    const { session } = await stack.client().openSession(id);

    const { message, reply } = await stack.owner().postMessage(session.id, 'A word from the owner');

    expect(message).toMatchObject({ sender: 'user', sequence: 1, replyId: reply.id });
    await stack.owner().finalReply(reply.id);
  });
});

describe('deleting conversations', () => {
  /** A session with a reply that is done, one that is being generated, and a message that waits for the next. */
  async function liveSession(chatbotId: string, secret: string) {
    const opened = await stack
      .client()
      .openSession(chatbotId, { guest: { name: secret, email: `${secret}@example.com` } });
    const { session, guest } = opened;
    await stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });
    const done = await guest.postMessage(session.id, `${secret} one`);
    await guest.finalReply(done.reply.id);
    await stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'stall-mid' });
    const running = await guest.postMessage(session.id, `${secret} two`);
    const call = await provider.callAbout(`${secret} two`);
    const stream = await guest.follow(session.id).opened();
    const waiting = await guest.postMessage(session.id, `${secret} three`);
    await stream.next('reply.queued', waiting.reply.id);
    const { body: eventToken } = await guest.post(`/v1/sessions/${session.id}/events/token`);
    const watcher = await stack
      .client()
      .follow(session.id, { eventToken: eventToken.token as string })
      .opened();
    return {
      ...opened,
      call,
      streams: [stream, watcher],
      eventToken: eventToken.token as string,
      replyIds: [done.reply.id, running.reply.id, waiting.reply.id] as string[],
    };
  }
  type LiveSession = Awaited<ReturnType<typeof liveSession>>;

  /** Everything that the queue and the event stream hold, as text; their logs of job ids apart. */
  async function traces(): Promise<string> {
    const texts: string[] = [];
    const tables = await stack.database.query<{ name: string }>(
      `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
       where table_schema = 'bullmq' and table_name <> 'event'
         or table_schema = 'public' and table_name like 'event_stream%'`,
    );
    for (const { name } of tables) {
      const rows = await stack.database.query<{ text: string }>(`select t::text as text from ${name} t`);
      texts.push(...rows.map(({ text }) => text));
    }
    if (stack.redisPrefix === undefined) return texts.join('\n');
    const redis = await TestRedis.connect();
    try {
      for (const key of await redis.keysOf(stack.redisPrefix)) {
        if (!key.endsWith(':events')) texts.push(key, JSON.stringify(await redis.valueOf(key)));
      }
    } finally {
      redis.disconnect();
    }
    return texts.join('\n');
  }

  /** Two sessions of one guest. */
  async function openTwice() {
    const chatbotId = await newChatbot();
    const first = await stack.client().openSession(chatbotId, { guest: { name: 'Regular' } });
    const second = await stack.client().openSession(chatbotId);
    // No route gives a guest a second session yet.
    await stack.database.query('update chat_sessions set guest_id = $1 where id = $2', [
      first.session.guest.id,
      second.session.id,
    ]);
    return { first, second };
  }

  async function expectGone(live: LiveSession, secret: string): Promise<void> {
    for (const stream of live.streams) {
      await stream.next('session.deleted');
      await stream.ended;
      expect(stream.error).toBeNull();
      expect(stream.events.at(-1)).toMatchObject({ event: 'session.deleted', data: {} });
    }
    const path = `/v1/sessions/${live.session.id}`;
    const { guest } = live;
    const asGuest = [
      await guest.get(path),
      await guest.get(`${path}/messages`),
      await guest.post(`${path}/messages`, { content: 'still there?' }),
      await guest.get(`/v1/replies/${live.replyIds[0]}`),
      await guest.post(`${path}/events/token`),
      await guest.get(`${path}/events`),
      await stack.client().get(`${path}/events?token=${live.eventToken}`),
    ];
    expect(asGuest.map(({ status }) => status)).toEqual(asGuest.map(() => 401));
    const owner = stack.owner();
    const asOwner = [
      await owner.get(path),
      await owner.get(`${path}/messages`),
      await owner.delete(path),
      ...(await Promise.all(live.replyIds.map((id) => owner.get(`/v1/replies/${id}`)))),
    ];
    expect(asOwner.map(({ status }) => status)).toEqual(asOwner.map(() => 404));
    const rows = await stack.database.query(
      `select 'session' from chat_sessions where id = $1
       union all select 'message' from messages where chat_session_id = $1
       union all select 'reply' from replies where chat_session_id = $1
       union all select 'guest' from guests where name = $2`,
      [live.session.id, secret],
    );
    expect(rows).toEqual([]);
    // The call that runs is given up with the lease's next renewal, and its job with it.
    expect(await live.call.ended).toBe('client');
    await waitFor('the queue and the event stream to forget it', async () => {
      const text = await traces();
      const found = [secret, ...live.replyIds].filter((trace) => text.includes(trace));
      if (found.length > 0) throw new Error(`still there: ${found.join(', ')}`);
      return true;
    });
    await waitFor('the erasure to be done', async () => {
      const left = await stack.database.query('select 1 from erasures');
      return left.length === 0;
    });
  }

  async function newChatbot(): Promise<string> {
    return (await stack.owner().createChatbot({ name: 'Bakery', greeting: 'Hi {name}' })).id;
  }

  it('of one session takes everything of it, while a reply is being generated', async () => {
    const chatbotId = await newChatbot();
    const other = await stack.client().openSession(chatbotId, { guest: { name: 'Somebody else' } });
    const live = await liveSession(chatbotId, 'canary-session');
    expect(await traces()).toContain('canary-session');

    const answer = await stack.owner().delete(`/v1/sessions/${live.session.id}`);

    expect(answer).toMatchObject({ status: 204, body: null });
    await expectGone(live, 'canary-session');
    expect((await other.guest.get(`/v1/sessions/${other.session.id}`)).body).toEqual(other.session);
  });

  it('of a guest takes its sessions', async () => {
    const live = await liveSession(await newChatbot(), 'canary-guest');

    const answer = await stack.owner().delete(`/v1/guests/${live.session.guest.id}`);

    expect(answer).toMatchObject({ status: 204, body: null });
    await expectGone(live, 'canary-guest');
    expect((await stack.owner().delete(`/v1/guests/${live.session.guest.id}`)).status).toBe(404);
  });

  it('of a chatbot takes its sessions', async () => {
    const chatbotId = await newChatbot();
    const live = await liveSession(chatbotId, 'canary-chatbot');

    const answer = await stack.owner().delete(`/v1/chatbots/${chatbotId}`);

    expect(answer).toMatchObject({ status: 204, body: null });
    await expectGone(live, 'canary-chatbot');
    expect((await stack.owner().get(`/v1/chatbots/${chatbotId}`)).status).toBe(404);
  });

  it('leaves a guest who has another session, until that one goes too', async () => {
    const { first, second } = await openTwice();
    const guests = () =>
      stack.database.query('select name from guests where id = $1', [first.session.guest.id]);

    await stack.owner().delete(`/v1/sessions/${first.session.id}`);

    expect(await guests()).toEqual([{ name: 'Regular' }]);
    await stack.owner().delete(`/v1/sessions/${second.session.id}`);
    expect(await guests()).toEqual([]);
  });

  it('of a guest takes all its sessions at once', async () => {
    const { first, second } = await openTwice();

    await stack.owner().delete(`/v1/guests/${first.session.guest.id}`);

    const answers = await Promise.all(
      [first, second].map(({ guest, session }) => guest.get(`/v1/sessions/${session.id}`)),
    );
    expect(answers.map(({ status }) => status)).toEqual([401, 401]);
  });

  it('is refused to a guest, of its own session too', async () => {
    const { session, guest } = await stack
      .client()
      .openSession(await newChatbot(), { guest: { name: 'Ada' } });

    const answers = await Promise.all(
      [`/v1/sessions/${session.id}`, `/v1/guests/${session.guest.id}`].map((path) => guest.delete(path)),
    );

    expect(answers.map(({ status }) => status)).toEqual([401, 401]);
    expect((await guest.get(`/v1/sessions/${session.id}`)).status).toBe(200);
  });
});

describe('how many sessions a chatbot has', () => {
  it('is told within a minute of each that was opened or deleted, also where many are at once', async () => {
    const owner = stack.owner('user_counts');
    const chatbot = await owner.createChatbot();
    expect(chatbot.sessionCount).toBe(0);
    const counted = async (count: number) =>
      waitFor(`a count of ${count}`, async () => {
        const { body } = await owner.get(`/v1/chatbots/${chatbot.id}`);
        return body.sessionCount === count ? body : null;
      });
    const opened = await Promise.all(
      Array.from({ length: 12 }, () => stack.client().openSession(chatbot.id)),
    );
    const before = await counted(12);
    expect(before.updatedAt).toBe(chatbot.updatedAt);
    await Promise.all(opened.slice(0, 5).map(({ session }) => owner.delete(`/v1/sessions/${session.id}`)));
    await counted(7);
    expect((await owner.get('/v1/chatbots')).body.data).toMatchObject([{ sessionCount: 7 }]);
  });
});
