import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { replyDelta, replyStarted } from '../../src/events/entries.js';
import type { EventStream } from '../../src/events/event-stream.js';
import type { Timings } from '../../src/runtime/timings.js';
import { type Backend, BACKENDS, converse, newQuestion } from '../support/conversations.js';
import { signLocalOwnerToken } from '../support/product.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { type Recorded, SseRecorder, textOf } from '../support/sse-recorder.js';
import { Stack } from '../support/stack.js';
import { TestRedis } from '../support/test-redis.js';
import { waitFor } from '../support/wait.js';

/** Faults of the event stream, seen by those who watch: section C of the fault plan. */

const product =
  await importProduct<typeof import('../../src/events/event-stream.js')>('events/event-stream.js');

let provider: RawProvider;
beforeAll(async () => {
  provider = await startRawProvider();
});
afterAll(() => provider.close());

/** How many watchers come and go; the fault plan says 10,000, which takes a minute or two. */
const VISITS = Number(process.env['VISITS'] ?? 4_000);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
/** What the process holds after the garbage is gone. */
async function heldBytes(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collect();
    await sleep(20);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** How long a client may leave its buffer full. */
const STALL_MS = 5_000;

const openFiles = (): number => readdirSync('/proc/self/fd').length;

describe.each(BACKENDS)('watchers of events on %s', (backend: Backend) => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await Stack.start({
      backend,
      apis: 2,
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings: { sseMaxStallMs: STALL_MS, attemptBackoffMs: 100 },
    });
  });
  afterAll(() => stack.stop());

  // case 44
  it('get every event once, two hundred of them, whenever they come and whatever api they come to', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:60');
    const reference = await guest.follow(session.id, { after: cursor }).opened();
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    const watchers: { isFromTheStart: boolean; recorder: SseRecorder }[] = [];
    await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        await sleep(Math.random() * 1_800); // the reply takes some 1.3 s
        const isFromTheStart = index % 2 === 0;
        const client = guest.at(stack.apis[index % 4 < 2 ? 0 : 1]!.url);
        const recorder = client.follow(session.id, isFromTheStart ? { after: cursor } : {});
        watchers.push({ isFromTheStart, recorder });
        await recorder.opened();
      }),
    );
    await guest.finalReply(reply.id);
    await reference.next('reply.completed', reply.id);
    const all = reference.events.map(({ id }) => id);
    expect(new Set(all).size).toBe(all.length);
    expect(reference.textOf(reply.id)).toBe(answerTo(question));

    for (const { isFromTheStart, recorder } of watchers) {
      const startsAt = recorder.bareIds[0]!;
      const expected = isFromTheStart ? all : all.slice(all.indexOf(startsAt) + 1);
      await waitFor('a watcher to have all', () => recorder.events.length >= expected.length);
      expect(recorder.events.map(({ id }) => id)).toEqual(expected);
      await recorder.close();
    }
    await reference.close();
  });

  async function killListeners(): Promise<number> {
    if (backend === 'postgres') {
      const killed = await stack.database.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'assistly-event-stream'`,
      );
      return killed.length;
    }
    const redis = await TestRedis.connect();
    const killed = await Promise.all(
      redis.primaries.map((primary) => primary.call('CLIENT', 'KILL', 'TYPE', 'pubsub')),
    );
    redis.disconnect();
    return killed.reduce<number>((sum, count) => sum + Number(count), 0);
  }

  // case 46
  it('catch up before the next reread when every connection that carries the news is killed, again and again', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:100');
    const stream = guest.follow(session.id, { after: cursor });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);

    let killed = 0;
    for (let round = 0; round < 4; round++) {
      killed += await killListeners();
      await sleep(400);
    }
    const { finishedAt } = await guest.finalReply(reply.id);
    await stream.next('reply.completed', reply.id);

    expect(killed).toBeGreaterThan(0);
    expect(Date.now() - Date.parse(finishedAt)).toBeLessThan(10_000); // a reread comes every fifteen seconds
    expect(stream.textOf(reply.id)).toBe(answerTo(question));
    const ids = stream.events.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    await stream.close();
  });

  /** Everything said so far expires. */
  async function expireLog(sessionId: string): Promise<void> {
    if (backend === 'postgres') {
      await stack.database.query('delete from event_stream_entries where session_id = $1', [sessionId]);
      return;
    }
    const redis = await TestRedis.connect();
    await redis.any.xtrim(`${stack.redisPrefix}:{${sessionId}}:log`, 'MAXLEN', 0);
    redis.disconnect();
  }

  // case 48
  it('that come back after the log has expired get a snapshot with the text so far, and go on from it', async () => {
    const { session, guest, cursor, chatbotId } = await converse(stack, 'ok');
    const first = await guest.postMessage(session.id, newQuestion());
    await guest.finalReply(first.reply.id);
    await expireLog(session.id);
    await stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'pace:60' });
    const question = newQuestion();
    const live = await guest.follow(session.id).opened();
    const { reply } = await guest.postMessage(session.id, question);
    await live.next('reply.delta', reply.id);

    const stream = guest.follow(session.id, { lastEventId: cursor });
    await guest.finalReply(reply.id);
    await stream.next('reply.completed', reply.id);

    const [snapshot, ...rest] = stream.events as [Recorded, ...Recorded[]];
    expect(snapshot.event).toBe('session.snapshot');
    const shown = snapshot.data.replies.find(({ id }: { id: string }) => id === reply.id);
    expect(shown).toMatchObject({ status: 'in_progress', attempt: 1 });
    expect(shown.text.length).toBeGreaterThan(0);
    const said = rest
      .filter(({ event, data }) => event === 'reply.delta' && data.offset >= shown.text.length)
      .map(({ data }) => data.text as string);
    expect(shown.text + said.join('')).toBe(answerTo(question));
    expect(snapshot.data.messages).toHaveLength(3);
    await stream.close();
    await live.close();
  });

  // case 49
  it('that were away while a reply was begun anew are told so, and drop what they had', async () => {
    const { session, guest, cursor, chatbotId } = await converse(stack, 'trunc-clean');
    const before = guest.follow(session.id, { after: cursor });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    await before.next('reply.delta', reply.id);
    await before.close();
    await stack.owner().patch(`/v1/chatbots/${chatbotId}`, { model: 'ok' });
    await guest.finalReply(reply.id);

    const after = guest.at(stack.apis[1]!.url).follow(session.id, { lastEventId: before.lastEventId });
    await after.next('reply.completed', reply.id);

    const events = [...before.events, ...after.events];
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
    expect(
      events.filter(({ event }) => event === 'reply.started').map(({ data }) => data.attempt as number),
    ).toEqual([1, 2]);
    const attempts = events
      .filter(({ event }) => event === 'reply.delta')
      .map(({ data }) => data.attempt as number);
    expect(attempts).toEqual(attempts.toSorted((a, b) => a - b));
    expect(textOf(events, reply.id)).toBe(answerTo(question));
    await after.close();
  });

  // case 51
  it('get errors before the first event as problem documents, and after it the end of the stream, without a word of the cause', async () => {
    const { session, guest } = await converse(stack, 'ok');
    const path = `/v1/sessions/${session.id}/events`;
    const nobody = await stack.client().get(path);
    const stranger = await stack.owner('user_stranger').get(path);
    expect([nobody, stranger].map(({ status, body }) => [status, body.code])).toEqual([
      [401, 'unauthorized'],
      [404, 'not_found'],
    ]);

    await stack.database.query('alter table messages rename to messages_elsewhere');
    let text: string;
    let status: number;
    try {
      const response = await fetch(`${stack.apis[0]!.url}${path}?after=unknown`, {
        headers: { authorization: `Bearer ${guest.token}` },
      });
      status = response.status;
      text = await response.text(); // which ends
    } finally {
      await stack.database.query('alter table messages_elsewhere rename to messages');
    }
    expect(status).toBe(200);
    expect(text.split('\n').filter((line) => line !== '' && !/^(retry: \d+|id: \S+)$/.test(line))).toEqual(
      [],
    );
  });

  /** A client at the socket, which reads nothing until it is told to. */
  async function openUnread(token: string, sessionId: string) {
    const url = new URL(stack.apis[0]!.url);
    const socket = connect(Number(url.port), url.hostname);
    socket.on('error', () => undefined);
    socket.pause();
    await once(socket, 'connect');
    socket.write(
      `GET /v1/sessions/${sessionId}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    );
    return socket;
  }

  // case 53
  it('that do not read cost no memory, hold up nobody, and are let go', async () => {
    const { session, guest } = await converse(stack, 'ok');
    const reader = await guest.follow(session.id).opened();
    const letGo = new Set<number>();
    const server = stack.apis[0]!.app.getHttpServer();
    server.on('connection', (socket: Socket) => {
      const port = socket.remotePort ?? 0;
      socket.once('close', () => letGo.add(port));
    });
    const deaf = await Promise.all(Array.from({ length: 10 }, () => openUnread(guest.token!, session.id)));
    await sleep(500); // they are listening by then
    const before = await heldBytes();
    const stream = stack.workers[0]!.get<EventStream>(product.EventStream, { strict: false });
    const replyId = '00000000-0000-7000-8000-000000000001';
    await stream.append(session.id, [replyStarted({ replyId, attempt: 1 })]);
    const piece = 'x'.repeat(10_000);
    const PIECES = 1_200;
    let slowestMs = 0;
    for (let i = 0; i < PIECES; i++) {
      const startedAt = performance.now();
      await stream.append(session.id, [
        replyDelta({ replyId, attempt: 1, offset: i * piece.length, text: piece }),
      ]);
      if (i % 50 !== 49) continue;
      await waitFor('the reader to have it', () => reader.events.at(-1)?.data.offset === i * piece.length);
      slowestMs = Math.max(slowestMs, performance.now() - startedAt);
      reader.events.length = 0; // the test's own memory
    }

    expect(slowestMs).toBeLessThan(STALL_MS); // nobody waited for one of them to be let go
    // Twelve megabytes to each of ten: hardly more than that for all of them.
    expect((await heldBytes()) - before).toBeLessThan(20 * 1024 * 1024);
    const question = newQuestion();
    const other = await converse(stack, 'ok');
    const { reply } = await other.guest.postMessage(other.session.id, question);
    expect(await other.guest.finalReply(reply.id)).toMatchObject({ status: 'completed' });
    for (const socket of deaf) {
      await waitFor('one to be let go', () => letGo.has(socket.localPort ?? 0));
    }
    for (const socket of deaf) socket.destroy();
    await reader.close();
  });

  // case 54
  it(`leave nothing behind when they go: after ${VISITS} of them everything is as before`, async () => {
    const { session, guest } = await converse(stack, 'ok');
    const path = `/v1/sessions/${session.id}/events`;
    const headers = { authorization: `Bearer ${guest.token}` };
    const subscriptions = stack.apis.map(({ app }) =>
      countSubscriptions(app.get<EventStream>(product.EventStream, { strict: false })),
    );
    const visit = async (
      index: number,
      whileIn: () => Promise<unknown> = async () => undefined,
    ): Promise<void> => {
      const abort = new AbortController();
      const opening = fetch(`${stack.apis[index % 2]!.url}${path}`, { headers, signal: abort.signal });
      if (index % 5 === 0) {
        abort.abort(); // while it is being authorized
        await opening.catch(() => undefined);
        return;
      }
      const response = await opening;
      await response.body!.getReader().read();
      await whileIn();
      abort.abort();
    };
    const cycle = async (count: number): Promise<void> => {
      let next = 0;
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          while (next < count) await visit(next++);
        }),
      );
    };
    await cycle(200); // what is made once
    await waitFor('the first to be gone', () => subscriptions.every(({ open }) => open === 0));
    const filesBefore = openFiles();
    const heldBefore = await heldBytes();

    await cycle(VISITS);
    let arrived = 0;
    const { promise: all, resolve } = Promise.withResolvers<void>();
    await Promise.all(
      Array.from({ length: 300 }, (_, index) =>
        visit(index % 5 === 0 ? index + 1 : index, async () => {
          if (++arrived === 300) resolve();
          await all;
          expect(subscriptions.reduce((sum, { open }) => sum + open, 0)).toBeGreaterThan(0);
        }),
      ),
    );

    await waitFor('everything to be released', () => subscriptions.every(({ open }) => open === 0), {
      timeoutMs: 10_000,
    });
    expect(Math.max(...subscriptions.map(({ most }) => most))).toBeGreaterThan(50);
    await waitFor('the connections to be closed', () => openFiles() <= filesBefore + 20, {
      timeoutMs: 10_000,
    });
    if (backend === 'redis') {
      const redis = await TestRedis.connect();
      const left = (): Promise<unknown[]> => redis.channels(`${stack.redisPrefix}:{*`);
      await waitFor('no channel', async () => (await left()).length === 0);
      redis.disconnect();
    }
    await sleep(500);
    expect((await heldBytes()) - heldBefore).toBeLessThan((VISITS + 300) * 1_500); // one timer kept of each is more
    for (const { restore } of subscriptions) restore();
  }, 120_000);
});

describe.each(BACKENDS)('watchers on %s, over time', (backend: Backend) => {
  let stack: Stack;
  const start = async (timings: Partial<Timings>): Promise<void> => {
    stack = await Stack.start({
      backend,
      env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test' },
      timings,
    });
  };
  afterEach(() => stack.stop());

  // case 56
  it('are sent away when their stream is old, and go on where they were, without a gap', async () => {
    await start({ sseMaxAgeMs: 400 });
    const { session, guest, cursor } = await converse(stack, 'pace:100');
    const { reply } = await guest.postMessage(session.id, newQuestion());
    const events: Recorded[] = [];
    let streams = 0;
    for (let after = cursor; !events.some(({ event }) => event === 'reply.completed'); streams++) {
      const stream = guest.follow(session.id, { lastEventId: after });
      await stream.ended;
      expect(stream.error).toBeNull();
      events.push(...stream.events);
      after = stream.lastEventId;
    }
    expect(streams).toBeGreaterThan(2);
    expect(textOf(events, reply.id)).toBe(
      events.find(({ event }) => event === 'reply.completed')!.data.message.content,
    );
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
    expect(events.map(({ event }) => event)).not.toContain('session.snapshot');
  });

  // case 56
  it('see no more than the age of a stream after their credential has expired', async () => {
    await start({ sseMaxAgeMs: 6_000 });
    const { session, guest } = await converse(stack, 'ok');
    const lifetimeMs = 30 * 86_400_000;
    const token = signLocalOwnerToken(stack.stateDir, 'user_owner', Date.now() - lifetimeMs - 1_000); // four seconds are left
    const owner = stack.client().as(token);
    const stream = await owner.follow(session.id).opened();
    await waitFor('the token to be refused', async () => (await owner.get('/v1/chatbots')).status === 401, {
      timeoutMs: 30_000, // expired, but for the five seconds that clocks may differ
    });

    await stream.ended;
    await guest.finalReply((await guest.postMessage(session.id, newQuestion())).reply.id);

    expect(stream.error).toBeNull();
    expect(stream.events).toEqual([]);
    const back = owner.follow(session.id, { lastEventId: stream.lastEventId });
    await back.ended;
    expect(back.response!.status).toBe(401);
  });

  // case 56
  it('are let go within seconds when the session went without a word, and not let in again', async () => {
    await start({ sseKeepAliveIntervalMs: 500 });
    const { session, guest } = await converse(stack, 'ok');
    const stream = await guest.follow(session.id).opened();
    await stack.database.query('delete from chat_sessions where id = $1', [session.id]);
    await stream.ended;
    expect(stream.events.map(({ event }) => event)).toEqual(['session.deleted']);
    const back = guest.follow(session.id, { lastEventId: stream.lastEventId });
    await back.ended;
    expect(back.response!.status).toBe(401);
  });
});

function countSubscriptions(stream: EventStream) {
  const counted = { open: 0, most: 0, restore: () => spy.mockRestore() };
  const subscribe = stream.subscribe.bind(stream);
  const spy = jest.spyOn(stream, 'subscribe').mockImplementation(async (sessionId, listener) => {
    counted.open++;
    counted.most = Math.max(counted.most, counted.open);
    let isOpen = true;
    const release = (): void => {
      if (isOpen) counted.open--;
      isOpen = false;
    };
    try {
      const unsubscribe = await subscribe(sessionId, listener);
      return () => {
        release();
        unsubscribe();
      };
    } catch (error) {
      release();
      throw error;
    }
  });
  return counted;
}
