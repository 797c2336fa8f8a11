import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { createEventToken } from '../../src/auth/session-tokens.js';
import { newId } from '../../src/database/columns.js';
import type { ApiClient, Json, Recorded } from '../support/api-client.js';
import { ask, converse, newQuestion } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import type { SseRecorder } from '../support/sse-recorder.js';
import { check } from '../support/contract.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** For the model that never ends: enough to fill what lies between an api and a client that does not read. */
const REPLY_MAX_CHARS = 400_000;

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    apis: 2,
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      REPLY_MAX_CHARS: String(REPLY_MAX_CHARS),
      CONTEXT_MAX_TOKENS: '2000',
      DRAIN_TIMEOUT_MS: '0',
    },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

/** The answer to a request, as it comes over the wire, up to what `isEnough`. */
async function rawGet(
  url: string,
  headers: Record<string, string>,
  { method = 'GET', isEnough = () => false }: { method?: string; isEnough?: (text: string) => boolean } = {},
): Promise<{ status: number | undefined; headers: Record<string, unknown>; text: string }> {
  const outgoing = request(url, { method, headers, agent: false, signal: AbortSignal.timeout(10_000) });
  outgoing.end();
  const [response] = await once(outgoing, 'response');
  let text = '';
  for await (const chunk of response) {
    text += String(chunk);
    if (isEnough(text)) break;
  }
  outgoing.destroy();
  const isStream = response.headers['content-type']?.startsWith('text/event-stream') ?? false;
  check({
    method,
    url,
    requestHeaders: new Headers(headers),
    requestBody: undefined,
    status: response.statusCode,
    headers: new Headers(response.headers),
    text: isStream ? null : text,
  });
  return { status: response.statusCode, headers: response.headers, text };
}

const eventsUrl = (sessionId: string, query = ''): string =>
  `${stack.apis[0]!.url}/v1/sessions/${sessionId}/events${query}`;
const bearer = (client: ApiClient): Record<string, string> => ({
  authorization: `Bearer ${client.token}`,
});

describe('the event stream of a session', () => {
  it('starts with the time to reconnect after and the cursor where it starts', async () => {
    const { session, guest } = await converse(stack);

    const { status, text } = await rawGet(eventsUrl(session.id), bearer(guest), {
      isEnough: (soFar) => soFar.includes('id:'),
    });

    expect(status).toBe(200);
    expect(text).toMatch(/^retry: 2000\n\nid: \S+\n\n$/);
  });

  it('has the headers that keep proxies from holding it back, and is never compressed', async () => {
    const { session, guest } = await converse(stack);

    const { headers } = await rawGet(
      eventsUrl(session.id),
      { ...bearer(guest), 'accept-encoding': 'gzip, br' },
      { isEnough: () => true },
    );

    expect(headers['content-type']).toMatch(/^text\/event-stream\b/);
    expect(headers['cache-control']).toBe('no-cache, no-transform');
    expect(headers['x-accel-buffering']).toBe('no');
    expect(headers['content-encoding']).toBeUndefined();
    expect(headers['x-request-id']).toEqual(expect.any(String));
  });

  it('answers HEAD with its headers and ends', async () => {
    const { session, guest } = await converse(stack);

    const { status, headers, text } = await rawGet(eventsUrl(session.id), bearer(guest), { method: 'HEAD' });

    expect(status).toBe(200);
    expect(headers['content-type']).toMatch(/^text\/event-stream\b/);
    expect(text).toBe('');
  });

  it('tells a reply from the message to its end, every event with a cursor of its own', async () => {
    const conversation = await converse(stack, 'pace:20');
    const { session, guest, cursor } = conversation;
    const stream = guest.follow(session.id, { after: cursor });
    const posted = await guest.postMessage(session.id, 'What do you sell?');

    const reply = await guest.finalReply(posted.reply.id);
    await stream.next('reply.completed');

    const [, answer] = await guest.messages(session.id);
    const kinds = stream.events.map(({ event }) => event);
    expect(kinds.slice(0, 3)).toEqual(['message.created', 'reply.queued', 'reply.started']);
    expect(kinds.at(-1)).toBe('reply.completed');
    expect(new Set(kinds.slice(3, -1))).toEqual(new Set(['reply.delta']));
    expect(stream.events[0]!.data).toEqual({ message: posted.message });
    expect(stream.events[1]!.data).toEqual({ reply: posted.reply });
    expect(stream.events[2]!.data).toEqual({ replyId: reply.id, attempt: 1 });
    let length = 0;
    for (const { data } of stream.ofType('reply.delta')) {
      expect(data).toEqual({ replyId: reply.id, attempt: 1, offset: length, text: expect.any(String) });
      length += data.text.length;
    }
    expect(stream.events.at(-1)!.data).toEqual({ reply, message: answer, superseded: [] });
    expect(stream.textOf(reply.id)).toBe(answer.content);
    expect(new Set([...stream.bareIds, ...stream.events.map(({ id }) => id)]).size).toBe(
      1 + stream.events.length,
    );
    await stream.close();
  });

  it('opened without a cursor begins with what happens next', async () => {
    const conversation = await converse(stack);
    await ask(conversation);
    const stream = await conversation.guest.follow(conversation.session.id).opened();

    const { message } = await conversation.guest.postMessage(conversation.session.id, newQuestion());

    await stream.next('reply.completed');
    expect(stream.events[0]).toMatchObject({ event: 'message.created', data: { message } });
    await stream.close();
  });

  it('opened with a cursor continues right after that event; the header wins over the query', async () => {
    const conversation = await converse(stack);
    const { session, guest, cursor } = conversation;
    await ask(conversation);
    const whole = guest.follow(session.id, { after: cursor });
    await whole.next('reply.completed');
    const [first, second] = whole.events;

    const byQuery = guest.follow(session.id, { after: first!.id });
    const byHeader = guest.follow(session.id, { lastEventId: first!.id });
    const byBoth = guest.follow(session.id, { after: first!.id, lastEventId: second!.id });
    for (const stream of [byQuery, byHeader, byBoth]) await stream.next('reply.completed');

    expect(byQuery.bareIds).toEqual([first!.id]);
    expect(byQuery.events).toEqual(whole.events.slice(1));
    expect(byHeader.events).toEqual(whole.events.slice(1));
    expect(byBoth.events).toEqual(whole.events.slice(2));
    for (const stream of [whole, byQuery, byHeader, byBoth]) await stream.close();
  });

  it('loses and repeats nothing over twenty reconnects at random moments, on either api', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:30');
    const uninterrupted = guest.follow(session.id, { after: cursor });
    const talking = (async () => {
      for (let turn = 0; turn < 3; turn++) {
        const { reply } = await guest.postMessage(session.id, newQuestion());
        await guest.finalReply(reply.id);
      }
    })();

    const pieces: Recorded[] = [];
    let lastEventId = cursor;
    let connections = 0;
    const isComplete = (more: readonly Recorded[]): boolean =>
      [...pieces, ...more].filter(({ event }) => event === 'reply.completed').length === 3;
    for (; connections < 20 || !isComplete([]); connections++) {
      const stream = guest.at(stack.apis[connections % 2]!.url).follow(session.id, { lastEventId });
      const enough = Math.floor(Math.random() * 3);
      await waitFor(
        'some events',
        () => stream.bareIds.length > 0 && (stream.events.length >= enough || isComplete(stream.events)),
        { intervalMs: 5 },
      );
      await stream.close();
      pieces.push(...stream.events);
      lastEventId = stream.lastEventId;
    }
    await talking;
    await waitFor('the end', () => uninterrupted.ofType('reply.completed').length === 3);

    expect(connections).toBeGreaterThanOrEqual(20);
    expect(pieces).toEqual(uninterrupted.events);
    await uninterrupted.close();
  });

  it('may be watched by many, who all see the same', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:10');
    const streams = Array.from({ length: 60 }, (_, index) =>
      guest.at(stack.apis[index % 2]!.url).follow(session.id, { after: cursor }),
    );

    const { reply } = await guest.postMessage(session.id, newQuestion());

    for (const stream of streams) await stream.next('reply.completed', reply.id);
    for (const stream of streams) expect(stream.events).toEqual(streams[0]!.events);
    await Promise.all(streams.map((stream) => stream.close()));
  });

  it('may be left at any time: the reply goes on', async () => {
    const question = newQuestion();
    const { session, guest, cursor } = await converse(stack, 'pace:30');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);

    await stream.close();

    expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
    const call = await provider.callAbout(question);
    expect(await call.ended).toBe('provider');
  });

  it.each([
    ['nobody', 401],
    ['a guest of another session', 404],
    ['another owner', 404],
  ])('answers %s with a problem, not with a stream', async (who, status) => {
    const { session } = await converse(stack);
    const other = await converse(stack);
    const caller = {
      nobody: stack.client(),
      'a guest of another session': other.guest,
      'another owner': stack.owner('user_other'),
    }[who]!;

    const answer = await caller.get(`/v1/sessions/${session.id}/events`);

    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  });
});

describe('a cursor that cannot be continued from', () => {
  it.each([
    ['a word', 'abc'],
    ['a negative number', '-1'],
    ['a number', '17'],
    ['no number', '1e400'],
    ['eight kilobytes', 'x'.repeat(8_192)],
    ['quotes and brackets', `'; drop table replies; --{"a":[]}`],
  ])('as %s is answered with a snapshot, in the header and in the query', async (_, hostile) => {
    const conversation = await converse(stack);
    await ask(conversation);
    const { session, guest } = conversation;

    const streams = [
      guest.follow(session.id, { after: hostile }),
      guest.follow(session.id, { lastEventId: hostile }),
    ];

    for (const stream of streams) {
      const { data } = await stream.next('session.snapshot');
      expect(stream.response?.status).toBe(200);
      expect(stream.events[0]!.event).toBe('session.snapshot');
      expect(data.messages).toEqual(await guest.messages(session.id));
      await stream.close();
    }
  });

  it.each([
    ['line breaks', '?after=a%0d%0aX-Injected:%20b'],
    ['a NUL', '?after=%00'],
    ['bytes that are no text', '?after=%ff%fe'],
    ['several at once', '?after=a&after=b'],
  ])('as %s is answered with a snapshot', async (_, query) => {
    const { session, guest } = await converse(stack);

    const { status, headers, text } = await rawGet(eventsUrl(session.id, query), bearer(guest), {
      isEnough: (soFar) => soFar.includes('session.snapshot'),
    });

    expect(status).toBe(200);
    expect(headers['x-injected']).toBeUndefined();
    expect(text).toContain('event: session.snapshot\n');
  });

  it.each(['?after=', ''])('and one that is empty is as good as none: "%s"', async (query) => {
    const { session, guest } = await converse(stack);

    const { text } = await rawGet(
      eventsUrl(session.id, query),
      { ...bearer(guest), 'last-event-id': '' },
      { isEnough: (soFar) => soFar.includes('id:') },
    );

    expect(text).toMatch(/^retry: 2000\n\nid: \S+\n\n$/);
  });

  it('as another session’s tells nothing of that session', async () => {
    const [mine, other] = [await converse(stack), await converse(stack)];
    await ask(other, 'The secret of the other session');
    await ask(mine);

    const stream = mine.guest.follow(mine.session.id, { after: other.cursor });

    const { data } = await stream.next('session.snapshot');
    expect(data.messages).toEqual(await mine.guest.messages(mine.session.id));
    expect(JSON.stringify(stream.events)).not.toContain('secret');
    await stream.close();
  });

  it('as one of the future is answered with a snapshot', async () => {
    const { session, guest, cursor } = await converse(stack);

    const stream = guest.follow(session.id, { after: cursor.replace(/\d+$/, '999999') });

    await stream.next('session.snapshot');
    await stream.close();
  });
});

describe('a snapshot', () => {
  /** What a reader makes of a snapshot and what follows it: the text of a reply, by the rules of the contract. */
  function textAfterSnapshot(events: readonly Recorded[], replyId: string): string {
    let attempt = 0;
    let text = '';
    for (const { event, data } of events) {
      if (event === 'session.snapshot') {
        const shown = data.replies.find((reply: Json) => reply.id === replyId);
        if (shown?.text !== undefined) ({ attempt, text } = shown);
      } else if (event === 'reply.started' && data.replyId === replyId && data.attempt > attempt) {
        attempt = data.attempt;
        text = '';
      } else if (event === 'reply.delta' && data.replyId === replyId && data.attempt === attempt) {
        expect(data.offset).toBe(text.length);
        text += data.text;
      }
    }
    return text;
  }

  it('holds the newest fifty messages and replies, and the text so far of the unfinished one', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:60');
    const past = Array.from({ length: 60 }, () => newId());
    for (const [index, id] of past.entries()) {
      await stack.database.query(
        `insert into replies (id, chat_session_id, status, finished_at, announced_at, created_at)
         values ($1, $2, 'completed', now(), now(), now() - interval '1 hour' + $3 * interval '1 second')`,
        [id, session.id, index],
      );
      await stack.database.query(
        `insert into messages (id, chat_session_id, sequence, sender, content, reply_id)
         values (gen_random_uuid(), $1, $2, 'user', 'Old question', $4),
                (gen_random_uuid(), $1, $3, 'ai', 'Old answer', $4)`,
        [session.id, 2 * index + 1, 2 * index + 2, id],
      );
    }
    await stack.database.query('update chat_sessions set message_count = 120 where id = $1', [session.id]);
    const live = guest.follow(session.id, { after: cursor });
    const posted = await guest.postMessage(session.id, newQuestion());
    await live.next('reply.delta', posted.reply.id);

    const stream = guest.follow(session.id, { after: 'unknown' });

    const { id, data } = await stream.next('session.snapshot');
    expect(data.messages.map(({ sequence }: Json) => sequence)).toEqual(
      Array.from({ length: 50 }, (_, index) => 72 + index),
    );
    expect(data.messages.at(-1)).toEqual(posted.message);
    expect(data.replies.map((reply: Json) => reply.id)).toEqual([...past.slice(-49), posted.reply.id]);
    const unfinished = data.replies.at(-1);
    expect(unfinished).toMatchObject({ status: 'in_progress', attempt: 1, text: expect.stringMatching(/./) });
    expect(data.replies[0]).not.toHaveProperty('text');
    const completed = await stream.next('reply.completed', posted.reply.id);
    expect(textAfterSnapshot(stream.events, posted.reply.id)).toBe(completed.data.message.content);
    // Its cursor is one to continue from, as any other.
    const resumed = guest.follow(session.id, { lastEventId: id });
    await resumed.next('reply.completed', posted.reply.id);
    expect(resumed.events).toEqual(stream.events.slice(1));
    for (const each of [live, stream, resumed]) await each.close();
  });

  it('taken at any moment of a reply is continued exactly by what follows it', async () => {
    const question = newQuestion();
    const { session, guest } = await converse(stack, 'pace:25');
    const streams: SseRecorder[] = [];
    const { reply } = await guest.postMessage(session.id, question);
    let isFinal = false;
    const ending = guest.finalReply(reply.id).then(() => {
      isFinal = true;
    });
    while (!isFinal) {
      streams.push(guest.at(stack.apis[streams.length % 2]!.url).follow(session.id, { after: 'unknown' }));
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await ending;

    for (const stream of streams) {
      const { data } = await stream.next('session.snapshot');
      const held = data.messages.find(({ sender }: Json) => sender === 'ai');
      const completed = held ?? (await stream.next('reply.completed', reply.id)).data.message;
      expect(completed.content).toBe(answerTo(question));
      if (!held) expect(textAfterSnapshot(stream.events, reply.id)).toBe(answerTo(question));
      expect(stream.ofType('session.snapshot')).toHaveLength(1);
      await stream.close();
    }
    expect(streams.length).toBeGreaterThan(10);
  });
});

describe('an event token', () => {
  it('lets a browser follow that session, for sixty minutes', async () => {
    const conversation = await converse(stack);
    const { session, guest, cursor, owner } = conversation;

    const startedAt = Date.now();
    const answers = [
      await guest.post(`/v1/sessions/${session.id}/events/token`),
      await owner.post(`/v1/sessions/${session.id}/events/token`),
    ];

    await ask(conversation);
    for (const { status, body } of answers) {
      expect(status).toBe(201);
      expect(body).toEqual({ token: expect.any(String), expiresAt: expect.any(String) });
      const lifetimeMs = Date.parse(body.expiresAt) - startedAt;
      expect(lifetimeMs).toBeGreaterThan(59 * 60_000);
      expect(lifetimeMs).toBeLessThanOrEqual(60 * 60_000 + 5_000);
      // Twice, as a browser that reconnects.
      for (const after of [cursor, cursor]) {
        const stream = stack.client(1).follow(session.id, { after, eventToken: body.token });
        await stream.next('reply.completed');
        await stream.close();
      }
    }
  });

  it('is good for nothing else', async () => {
    const { session, guest } = await converse(stack);
    const other = await converse(stack);
    const { token } = (await guest.post(`/v1/sessions/${session.id}/events/token`)).body;
    const nobody = stack.client();

    const refusals = await Promise.all([
      nobody.get(`/v1/sessions/${session.id}?token=${token}`),
      nobody.get(`/v1/sessions/${session.id}/messages?token=${token}`),
      nobody.post(`/v1/sessions/${session.id}/messages?token=${token}`, { content: 'Hi' }),
      nobody.post(`/v1/sessions/${session.id}/events/token?token=${token}`),
      nobody.as(token).get(`/v1/sessions/${session.id}`),
      nobody.as(token).get(`/v1/sessions/${session.id}/events`),
    ]);

    expect(refusals.map(({ status }) => status)).toEqual(Array(6).fill(401));
    expect((await nobody.get(`/v1/sessions/${other.session.id}/events?token=${token}`)).status).toBe(404);
    expect(await guest.messages(session.id)).toEqual([]);
  });

  it('is refused when it was forged, has expired, or is another credential', async () => {
    const { session, guest, owner } = await converse(stack);
    const { token } = (await guest.post(`/v1/sessions/${session.id}/events/token`)).body;
    const [{ event_token_key: key }] = (await stack.database.query<{ event_token_key: string }>(
      'select event_token_key from chat_sessions where id = $1',
      [session.id],
    )) as [{ event_token_key: string }];
    const expired = createEventToken(session.id, key, Date.now() - 61 * 60_000).token;
    const forged = createEventToken(session.id, '00'.repeat(32)).token;

    for (const bad of [expired, forged, `${token}x`, token.slice(0, -1), guest.token!, owner.token!, '']) {
      const { status } = await stack.client().get(`/v1/sessions/${session.id}/events?token=${bad}`);
      expect(status).toBe(401);
    }
  });
});

describe('a client that does not read', () => {
  it('costs the api no memory and holds up nobody, and goes on where it was', async () => {
    const { session, guest, cursor } = await converse(stack, 'endless');
    const api = await stack.addApi();
    const connections: Socket[] = [];
    api.app.getHttpServer().on('connection', (socket: Socket) => connections.push(socket));
    const { port } = new URL(api.url);
    const idler = connect({ host: '127.0.0.1', port: Number(port) });
    await once(idler, 'connect');
    idler.pause();
    idler.write(
      `GET /v1/sessions/${session.id}/events?after=${cursor} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${guest.token}\r\n\r\n`,
    );
    const served = await waitFor('the connection', () => connections[0]);
    const reader = guest.at(api.url).follow(session.id, { after: cursor });

    let mostWaiting = 0;
    const lookingIn = setInterval(() => {
      mostWaiting = Math.max(mostWaiting, served.writableLength);
    }, 5);
    const replies: Json[] = [];
    // Until neither the sockets' buffers nor the kernel's take more; and then once more.
    for (let isFull = false; !isFull && replies.length < 40;) {
      isFull = served.writableNeedDrain;
      const { reply } = await guest.postMessage(session.id, newQuestion());
      replies.push(await guest.finalReply(reply.id));
    }
    clearInterval(lookingIn);

    expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 'completed'));
    for (const { id } of replies) {
      await reader.next('reply.completed', id);
      expect(reader.textOf(id)).toHaveLength(REPLY_MAX_CHARS);
    }
    expect(served.writableNeedDrain).toBe(true);
    expect(mostWaiting).toBeLessThan(2_000_000);

    let received = '';
    idler.setEncoding('utf8');
    idler.on('data', (chunk: string) => (received += chunk));
    idler.resume();
    const last = reader.events.at(-1)!;
    await waitFor('the rest', () => received.includes(`id: ${last.id}\n`));
    const ids = [...received.matchAll(/^id: (\S+)\r?\nevent: /gm)].map(([, id]) => id);
    expect(ids).toEqual(reader.events.map(({ id }) => id));
    idler.destroy();
    await reader.close();
    await api.app.close();
  });
});

describe('a deleted session', () => {
  it('tells its watchers so as the last thing, and ends their streams and tokens', async () => {
    const { session, guest, owner, cursor } = await converse(stack, 'pace:50');
    const { token } = (await guest.post(`/v1/sessions/${session.id}/events/token`)).body;
    const streams = [
      guest.follow(session.id, { after: cursor }),
      guest.at(stack.apis[1]!.url).follow(session.id, { after: cursor }),
      stack.client().follow(session.id, { after: cursor, eventToken: token }),
    ];
    const { reply } = await guest.postMessage(session.id, newQuestion());
    for (const stream of streams) await stream.next('reply.delta', reply.id);

    const { status } = await owner.delete(`/v1/sessions/${session.id}`);

    expect(status).toBe(204);
    for (const stream of streams) {
      await stream.ended;
      expect(stream.error).toBeNull();
      expect(stream.events.at(-1)).toMatchObject({ event: 'session.deleted', data: {} });
    }
    expect((await guest.get(`/v1/sessions/${session.id}/events`)).status).toBe(401);
    expect((await stack.client().get(`/v1/sessions/${session.id}/events?token=${token}`)).status).toBe(401);
    expect((await owner.get(`/v1/sessions/${session.id}/events`)).status).toBe(404);
  });
});
