import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import pg from 'pg';
import {
  messageCreated,
  replyCancelled,
  replyCompleted,
  replyDelta,
  replyFailed,
  replyQueued,
  replyRetrying,
  replyStarted,
} from '../../src/events/entries.js';
import {
  EventStreamUnavailableError,
  EventType,
  MAX_READ_BYTES,
  STREAM_RETENTION_MS,
} from '../../src/events/event-stream.js';
import type {
  Cursor,
  EventStream,
  StreamEntry,
  StreamEvent,
  StreamListener,
} from '../../src/events/event-stream.js';
import { follow } from '../../src/events/follow.js';
import { PostgresEventStream } from '../../src/events/postgres-event-stream.js';
import { loadConfig, Role } from '../../src/config/env.js';
import type { RedisSettings } from '../../src/redis/redis-connection.js';
import { RedisEventStream } from '../../src/events/redis-event-stream.js';
import { createTestDatabase } from '../support/database.js';
import { startRedis, startRedisCluster } from '../support/services.mjs';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** Of streams that answer, however busy the machine is; and of those whose store falls silent. */
const DEADLINE_MS = 20_000;
const SHORT_DEADLINE_MS = 700;
/** A reread that never comes: what is found was told. */
const NEVER_MS = 3_600_000;
/** When a test that waits for events gives up, in milliseconds. */
const PATIENCE_MS = 45_000;

/** A store with the event stream in it, and what the tests do behind the adapter's back. */
interface Store {
  /** Where adapters connect to; a test may put a proxy in between. */
  url: string;
  /** An adapter of its own, as in a process of its own. */
  open(url: string, deadlineMs?: number): { stream: EventStream; release: () => Promise<void> };
  /** Lets entries up to `seq` expire. */
  expire(sessionId: string, seq: number): Promise<void>;
  /** Loses the stream of the session. */
  lose(sessionId: string): Promise<void>;
  /** Cuts the connections that listen; gives how many. */
  cutListeners(): Promise<number>;
  /** Subscriptions to the session's channel, or null where the store knows none of single sessions. */
  subscriptions(sessionId: string): Promise<number | null>;
  /** Everything the store holds, as text. */
  dump(): Promise<string>;
  close(): Promise<void>;
}

async function postgresStore(): Promise<Store> {
  const testDatabase = await createTestDatabase();
  const url = new URL(testDatabase.url);
  const name = url.pathname.slice(1);
  const database = new pg.Client({ connectionString: url.href });
  await database.connect();
  const open: Store['open'] = (connectionString, deadlineMs = DEADLINE_MS) => {
    const pool = new pg.Pool({ connectionString, max: 5 });
    pool.on('error', () => undefined);
    const stream = new PostgresEventStream({
      pool,
      databaseUrl: connectionString,
      deadlineMs,
      onError: () => undefined,
    });
    return {
      stream,
      async release() {
        await stream.close();
        // A pool whose server is silent does not end.
        await Promise.race([pool.end(), sleep(1_000, undefined, { ref: false })]);
      },
    };
  };
  return {
    url: url.href,
    open,
    async expire(sessionId, seq) {
      await database.query(
        `UPDATE event_stream_entries SET created_at = now() - interval '61 min' WHERE session_id = $1 AND seq <= $2`,
        [sessionId, seq],
      );
      const { stream, release } = open(url.href);
      await stream.prune();
      await release();
    },
    async lose(sessionId) {
      for (const table of ['event_streams', 'event_stream_replies', 'event_stream_entries']) {
        await database.query(`DELETE FROM ${table} WHERE session_id = $1`, [sessionId]);
      }
    },
    async cutListeners() {
      const { rowCount } = await database.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = $1 AND application_name = 'assistly-event-stream'`,
        [name],
      );
      return rowCount ?? 0;
    },
    subscriptions: async () => null,
    async dump() {
      let text = '';
      for (const table of ['event_streams', 'event_stream_replies', 'event_stream_entries']) {
        const { rows } = await database.query<{ text: string }>(`SELECT t::text AS text FROM ${table} t`);
        text += rows.map((row) => row.text).join('\n');
      }
      return text;
    },
    async close() {
      await database.end();
      await testDatabase.drop();
    },
  };
}

/** As a product reads them. */
const redisAt = (env: Record<string, string>): RedisSettings =>
  loadConfig(Role.Worker, { DATABASE_URL: 'postgres://nowhere/none', ...env });

/** On a server of its own: "those who listen" are cut for all of a server, and so would be those of other tests. */
async function redisStore(): Promise<Store> {
  const server = await startRedis();
  return inRedis([new Redis(server.url)], (url) => redisAt({ REDIS_URL: url }), server);
}

async function clusterStore(): Promise<Store> {
  const cluster = await startRedisCluster();
  const settings = redisAt({ REDIS_URL: cluster.url, REDIS_CLUSTER_NODES: cluster.nodes });
  return inRedis(
    cluster.servers.map(({ url }) => new Redis(url)),
    () => settings,
    cluster,
  );
}

/** @param primaries connections to all of them */
function inRedis(
  primaries: Redis[],
  settings: (url: string) => RedisSettings,
  server: { url: string; stop: () => Promise<void> },
): Store {
  const prefix = `event-stream-${randomUUID()}`;
  const ofAll = async <T>(ask: (redis: Redis) => Promise<T[]>): Promise<T[]> =>
    (await Promise.all(primaries.map(ask))).flat();
  /** The primary that has the keys, and their names. */
  const keys = (pattern: string): Promise<[Redis, string][]> =>
    ofAll(async (redis) => (await redis.keys(`${prefix}:${pattern}`)).map((key) => [redis, key]));
  return {
    url: server.url,
    open(url, deadlineMs = DEADLINE_MS) {
      const stream = new RedisEventStream({
        settings: settings(url),
        prefix,
        deadlineMs,
        onError: () => undefined,
      });
      return { stream, release: () => stream.close() };
    },
    async expire(sessionId, seq) {
      for (const [redis, key] of await keys(`{${sessionId}}:log`)) {
        await redis.xtrim(key, 'MINID', `${seq + 1}-0`);
      }
    },
    async lose(sessionId) {
      for (const [redis, key] of await keys(`{${sessionId}}:*`)) await redis.del(key);
    },
    async cutListeners() {
      const cut = await ofAll(async (redis) => [await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')]);
      return cut.reduce<number>((sum, count) => sum + Number(count), 0);
    },
    async subscriptions(sessionId) {
      const channel = `${prefix}:{${sessionId}}:news`;
      const counts = await ofAll(async (redis) => [
        (await redis.pubsub('NUMSUB', channel))[1],
        (await redis.pubsub('SHARDNUMSUB', channel))[1],
      ]);
      return counts.reduce<number>((sum, count) => sum + Number(count), 0);
    },
    async dump() {
      let text = '';
      for (const [redis, key] of await keys('*')) {
        const type = await redis.type(key);
        if (type === 'string') text += await redis.get(key);
        if (type === 'hash') text += JSON.stringify(await redis.hgetall(key));
        if (type === 'set') text += JSON.stringify(await redis.smembers(key));
        if (type === 'stream') text += JSON.stringify(await redis.xrange(key, '-', '+'));
      }
      return text;
    },
    async close() {
      for (const redis of primaries) redis.disconnect();
      await server.stop();
    },
  };
}

const message = (content = 'hello') => ({ id: randomUUID(), content });

/** An attempt's start and its text, in pieces. */
function speech(replyId: string, attempt: number, ...pieces: string[]): StreamEntry[] {
  let offset = 0;
  return [
    replyStarted({ replyId, attempt }),
    ...pieces.map((text) => {
      const delta = replyDelta({ replyId, attempt, offset, text });
      offset += text.length;
      return delta;
    }),
  ];
}

async function readAll(stream: EventStream, sessionId: string, after: Cursor): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  for (let cursor = after; ;) {
    const result = await stream.read(sessionId, cursor, 100_000);
    if (result.status === 'lost') throw new Error('lost');
    events.push(...result.events);
    if (!result.hasMore) return events;
    cursor = result.cursor;
  }
}

async function toArray<T>(items: AsyncIterable<T>): Promise<T[]> {
  const array: T[] = [];
  for await (const item of items) array.push(item);
  return array;
}

const typesOf = (events: readonly StreamEvent[]): string[] => events.map((event) => event.type);
const seqsOf = (events: readonly StreamEvent[]): number[] => events.map((event) => event.seq);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

const eventually = (condition: () => boolean | Promise<boolean>): Promise<boolean> =>
  waitFor('the condition', condition, { timeoutMs: PATIENCE_MS, intervalMs: 5 });

/** What follows a stream, and how often it has read the log. */
function watched(stream: Pick<EventStream, 'subscribe' | 'read'>) {
  let reads = 0;
  return {
    subscribe: stream.subscribe.bind(stream),
    read: async (...args: Parameters<EventStream['read']>) => {
      const result = await stream.read(...args);
      reads++;
      return result;
    },
    hasRead: (times: number) => eventually(() => reads >= times),
  };
}

/** What it is called, and the port that a door stands before; null: there is more than one. */
type NamedStore = [string, () => Promise<Store>, number | null];
const STORES: NamedStore[] = [
  ['PostgreSQL', postgresStore, 5432],
  // Without a Redis the configuration of Jest has said so, loudly.
  ...(globalThis.HAS_REDIS ? [['Redis', redisStore, 6379] satisfies NamedStore] : []),
  ...(process.env['CLUSTER'] === '1' ? [['a Redis Cluster', clusterStore, null] satisfies NamedStore] : []),
];

describe.each(STORES)('the event stream on %s', (_name, openStore, defaultPort) => {
  let store: Store;
  let stream: EventStream;
  let other: EventStream;
  let sessionId: string;
  let start: Cursor;
  const releases: (() => Promise<void>)[] = [];

  function open(url = store.url, deadlineMs = DEADLINE_MS): EventStream {
    const opened = store.open(url, deadlineMs);
    releases.push(opened.release);
    return opened.stream;
  }

  beforeAll(async () => {
    store = await openStore();
  });

  beforeEach(async () => {
    stream = open();
    other = open();
    sessionId = randomUUID();
    start = await stream.head(sessionId);
  });

  afterEach(async () => {
    await Promise.all(releases.splice(0).map((release) => release()));
  });

  afterAll(async () => {
    await store.close();
  });

  describe('append', () => {
    it('numbers entries densely, in the order of each writer, whichever process they come from', async () => {
      const results = await Promise.all(
        upTo(50).map((i) =>
          (i % 2 ? stream : other).append(sessionId, [
            messageCreated(message(`${i}a`)),
            messageCreated(message(`${i}b`)),
          ]),
        ),
      );

      const events = await readAll(stream, sessionId, start);
      expect(results.every((result) => result.status === 'appended')).toBe(true);
      expect(seqsOf(events)).toEqual(upTo(100));
      const contents = events.map(
        (event) => (JSON.parse(event.data) as { message: { content: string } }).message.content,
      );
      for (const i of upTo(50)) expect(contents.indexOf(`${i}b`)).toBe(contents.indexOf(`${i}a`) + 1);
    });

    it('gives the cursor behind its last entry', async () => {
      const result = await stream.append(sessionId, [messageCreated(message()), messageCreated(message())]);
      expect(result).toEqual({ status: 'appended', cursor: { generation: start.generation, seq: 2 } });
      expect(await other.head(sessionId)).toEqual({ generation: start.generation, seq: 2 });
    });

    it('begins a stream where there is none', async () => {
      const fresh = randomUUID();
      const result = await stream.append(fresh, [messageCreated(message())]);
      expect(result).toMatchObject({ status: 'appended', cursor: { seq: 1 } });
      expect(result).toMatchObject({ cursor: await other.head(fresh) });
    });

    it('gives processes that begin a stream at once the same one', async () => {
      const fresh = randomUUID();
      const heads = await Promise.all([stream, other, stream, other].map((each) => each.head(fresh)));
      expect(new Set(heads.map((head) => head.generation)).size).toBe(1);
    });

    it('ignores a fact told again, also within one call', async () => {
      const fact = messageCreated(message());
      await stream.append(sessionId, [fact]);
      const again = await other.append(sessionId, [fact, messageCreated(message()), fact]);
      const twice = replyQueued({ id: randomUUID(), attempt: 0 });
      await stream.append(sessionId, [twice, twice]);
      expect(again).toMatchObject({ status: 'appended', cursor: { seq: 2 } });
      expect(typesOf(await readAll(stream, sessionId, start))).toEqual([
        EventType.MessageCreated,
        EventType.MessageCreated,
        EventType.ReplyQueued,
      ]);
    });

    it('keeps of each fact when it was told, by its key', async () => {
      const sessionId = randomUUID();
      const replyId = randomUUID();
      const before = Date.now();
      await stream.append(sessionId, [
        replyQueued({ id: replyId, attempt: 0 }),
        replyStarted({ replyId, attempt: 1 }),
        replyDelta({ replyId, attempt: 1, offset: 0, text: 'Hi' }),
      ]);
      const facts = await stream.facts(sessionId);
      expect(facts.map(({ key, type }) => [key, type])).toEqual([
        [`reply.queued:${replyId}`, 'reply.queued'],
        [`reply.started:${replyId}:1`, 'reply.started'],
      ]);
      for (const { at } of facts) {
        expect(Date.parse(at)).toBeGreaterThanOrEqual(before - 2_000);
        expect(Date.parse(at)).toBeLessThanOrEqual(Date.now() + 2_000);
      }
      expect(await stream.facts(randomUUID())).toEqual([]);
    });

    it('ignores a fact told by two processes at once', async () => {
      const fact = messageCreated(message());
      await Promise.all(upTo(20).map((i) => (i % 2 ? stream : other).append(sessionId, [fact])));
      expect(await stream.head(sessionId)).toMatchObject({ seq: 1 });
    });

    it('hands over data unchanged, whatever characters it holds', async () => {
      const content = 'a"\\\n\t/ é 😀 \u2028 \\u0000 %d {{}} \u007f';
      const replyId = randomUUID();
      await stream.append(sessionId, [
        messageCreated(message(content)),
        ...speech(replyId, 1, content, content),
      ]);

      const [created, , delta] = await readAll(other, sessionId, start);
      expect(JSON.parse(created!.data)).toMatchObject({ message: { content } });
      expect(JSON.parse(delta!.data)).toEqual({ replyId, attempt: 1, offset: 0, text: content });
      const { texts } = await other.shown(sessionId, [replyId]);
      expect(texts.get(replyId)).toEqual({ attempt: 1, text: content + content });
    });

    it.each([
      ['a NUL', 'a\0b'],
      ['a lone surrogate', 'a\ud83d'],
    ])('fails as a whole on %s', async (_what, text) => {
      const replyId = randomUUID();
      await expect(stream.append(sessionId, speech(replyId, 1, 'fine', text))).rejects.toThrow();
      await expect(stream.append(sessionId, [messageCreated(message(text))])).rejects.toThrow();
      expect(await stream.head(sessionId)).toEqual(start);
      expect((await stream.shown(sessionId, [replyId])).texts.size).toBe(0);
    });
  });

  describe('the text of a reply', () => {
    let replyId: string;
    const delta = (attempt: number, offset: number, text: string) =>
      replyDelta({ replyId, attempt, offset, text });
    const reply = (attempt: number) => ({ id: replyId, attempt });

    beforeEach(() => {
      replyId = randomUUID();
    });

    it('grows by deltas that continue it, counted in UTF-16 units', async () => {
      await stream.append(sessionId, speech(replyId, 1, 'é😀'));
      const result = await other.append(sessionId, [delta(1, 3, '!')]);
      expect(result.status).toBe('appended');
      expect((await stream.shown(sessionId, [replyId])).texts.get(replyId)).toEqual({
        attempt: 1,
        text: 'é😀!',
      });
    });

    it('ignores a delta that it has', async () => {
      await stream.append(sessionId, speech(replyId, 1, 'Hello', ' world'));
      for (const repeated of [
        delta(1, 0, 'Hello'),
        delta(1, 5, ' world'),
        delta(1, 2, 'l'),
        delta(1, 11, ''),
      ]) {
        const result = await other.append(sessionId, [repeated]);
        expect(result).toMatchObject({ status: 'appended', cursor: { seq: 3 } });
      }
    });

    it('is reported behind a delta that leaves a gap or overlaps', async () => {
      await stream.append(sessionId, speech(replyId, 2, 'Hello'));
      const behind = { status: 'behind', replyId, attempt: 2, length: 5 };
      expect(await stream.append(sessionId, [delta(2, 6, 'x')])).toEqual(behind);
      expect(await stream.append(sessionId, [delta(2, 3, 'lo world')])).toEqual(behind);
      expect(await stream.append(sessionId, [delta(3, 0, 'x')])).toEqual(behind);
    });

    it('is reported with attempt 0 where the stream does not know the reply', async () => {
      const behind = { status: 'behind', replyId, attempt: 0, length: 0 };
      expect(await stream.append(sessionId, [delta(1, 0, 'x')])).toEqual(behind);
      expect(await stream.append(sessionId, [replyCompleted(reply(1), message('x'))])).toEqual(behind);
    });

    it('begins anew with a higher attempt', async () => {
      await stream.append(sessionId, speech(replyId, 1, 'first'));
      await stream.append(sessionId, speech(replyId, 2, 'no'));
      expect((await stream.shown(sessionId, [replyId])).texts.get(replyId)).toEqual({
        attempt: 2,
        text: 'no',
      });
    });

    it('refuses a lower attempt', async () => {
      await stream.append(sessionId, speech(replyId, 2, 'second'));
      for (const late of [delta(1, 0, 'x'), replyStarted({ replyId, attempt: 1 }), replyFailed(reply(1))]) {
        expect(await other.append(sessionId, [late])).toEqual({ status: 'refused' });
      }
    });

    it('applies nothing of a call of which one entry is refused or behind', async () => {
      await stream.append(sessionId, speech(replyId, 2, 'second'));
      const before = await stream.head(sessionId);
      const fact = messageCreated(message());
      const another = randomUUID();

      const refused = await stream.append(sessionId, [
        fact,
        ...speech(another, 1, 'x'),
        delta(2, 6, '!'),
        delta(1, 0, 'x'),
      ]);
      const behind = await stream.append(sessionId, [
        fact,
        ...speech(another, 1, 'x'),
        delta(2, 6, '!'),
        delta(2, 9, 'x'),
      ]);

      expect(refused).toEqual({ status: 'refused' });
      expect(behind).toEqual({ status: 'behind', replyId, attempt: 2, length: 7 });
      expect(await stream.head(sessionId)).toEqual(before);
      const { texts } = await stream.shown(sessionId, [replyId, another]);
      expect([...texts]).toEqual([[replyId, { attempt: 2, text: 'second' }]]);
      expect(await stream.append(sessionId, [fact])).toMatchObject({ cursor: { seq: before.seq + 1 } });
    });

    it('ends with its reply, once its length is that of the message', async () => {
      await stream.append(sessionId, speech(replyId, 1, 'Hello'));
      const short = await stream.append(sessionId, [replyCompleted(reply(1), message('Hello world'))]);
      const later = await stream.append(sessionId, [replyCompleted(reply(2), message('Hello'))]);
      const caughtUp = await stream.append(sessionId, [
        delta(1, 5, ' world'),
        replyCompleted(reply(1), message('Hello world')),
      ]);
      expect(short).toEqual({ status: 'behind', replyId, attempt: 1, length: 5 });
      expect(later).toEqual({ status: 'behind', replyId, attempt: 1, length: 5 });
      expect(caughtUp).toMatchObject({ status: 'appended', cursor: { seq: 4 } });
    });

    it('refuses anything after its end, but ignores the end told again', async () => {
      const end = replyCompleted(reply(1), message('Hello'));
      await stream.append(sessionId, [...speech(replyId, 1, 'Hello'), end]);
      expect(await other.append(sessionId, [end])).toMatchObject({ status: 'appended', cursor: { seq: 3 } });
      expect(await other.append(sessionId, [delta(1, 5, '!')])).toEqual({ status: 'refused' });
      expect(await other.append(sessionId, [delta(1, 0, 'Hello')])).toEqual({ status: 'refused' });
      expect(await other.append(sessionId, speech(replyId, 2, 'x'))).toEqual({ status: 'refused' });
    });

    it('may end unknown where there is no text to miss', async () => {
      for (const end of [replyFailed(reply(1)), replyCancelled({ id: randomUUID(), attempt: 0 }, null)]) {
        expect(await stream.append(sessionId, [end])).toMatchObject({ status: 'appended' });
      }
      expect(await stream.append(sessionId, speech(replyId, 2, 'x'))).toEqual({ status: 'refused' });
    });

    it('is told whole in one call after the stream was lost', async () => {
      await stream.append(sessionId, speech(replyId, 3, 'Hello'));
      await store.lose(sessionId);

      const lost = await stream.append(sessionId, [delta(3, 5, ' world')]);
      const told = await stream.append(sessionId, [
        ...speech(replyId, 3, 'Hello world'),
        replyCompleted(reply(3), message('Hello world')),
      ]);

      expect(lost).toEqual({ status: 'behind', replyId, attempt: 0, length: 0 });
      expect(told).toMatchObject({ status: 'appended', cursor: { seq: 3 } });
    });

    it('is shown only until its end', async () => {
      await stream.append(sessionId, [...speech(replyId, 1, 'Hello'), replyFailed(reply(1))]);
      expect((await stream.shown(sessionId, [replyId])).texts.size).toBe(0);
      expect(await stream.seal(sessionId, replyId)).toBeNull();
    });

    describe('whose attempt is over', () => {
      const retrying = (attempt: number) =>
        replyRetrying({ replyId, attempt, reason: 'worker_lost', retryAt: null });

      it('takes no more of it, shows what there is, and begins anew with a higher attempt', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello'));
        expect(await other.append(sessionId, [retrying(1)])).toMatchObject({ status: 'appended' });

        const more = replyDelta({ replyId, attempt: 1, offset: 5, text: ' wor' });
        expect(await stream.append(sessionId, [more])).toEqual({ status: 'refused' });
        expect(await stream.append(sessionId, [replyStarted({ replyId, attempt: 1 }), more])).toEqual({
          status: 'refused',
        });
        expect((await stream.shown(sessionId, [replyId])).texts.get(replyId)).toEqual({
          attempt: 1,
          text: 'Hello',
        });
        expect(await stream.append(sessionId, speech(replyId, 2, 'Good', ' day'))).toMatchObject({
          status: 'appended',
        });
        expect((await stream.shown(sessionId, [replyId])).texts.get(replyId)).toEqual({
          attempt: 2,
          text: 'Good day',
        });
        expect(typesOf(await readAll(stream, sessionId, start))).toEqual([
          EventType.ReplyStarted,
          EventType.ReplyDelta,
          EventType.ReplyRetrying,
          EventType.ReplyStarted,
          EventType.ReplyDelta,
          EventType.ReplyDelta,
        ]);
      });

      it('is told once, and not when the next has started, or the reply is sealed or has ended', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello'));
        await stream.append(sessionId, [retrying(1)]);
        expect(await other.append(sessionId, [retrying(1)])).toMatchObject({ cursor: { seq: 3 } });
        const sealed = randomUUID();
        await stream.append(sessionId, speech(sealed, 1, 'Hello'));
        await stream.seal(sessionId, sealed);
        const ended = randomUUID();
        await stream.append(sessionId, [replyFailed({ id: ended, attempt: 1 })]);

        const started = randomUUID();
        await stream.append(sessionId, speech(started, 2, 'Hello'));

        for (const id of [started, sealed, ended]) {
          const entry = replyRetrying({ replyId: id, attempt: 1, reason: 'worker_stopped', retryAt: null });
          expect(await other.append(sessionId, [entry])).toEqual({ status: 'refused' });
        }
      });

      it('stays over where the stream knew nothing of it', async () => {
        await stream.append(sessionId, [retrying(3)]);
        expect(await other.append(sessionId, speech(replyId, 3, 'Hello'))).toEqual({ status: 'refused' });
        expect(await other.append(sessionId, speech(replyId, 2, 'Hello'))).toEqual({ status: 'refused' });
        expect(await other.append(sessionId, speech(replyId, 4, 'Hello'))).toMatchObject({
          status: 'appended',
        });
      });

      it('is sealed as any other, and ends with its reply, the rest of the text included', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello'));
        await stream.append(sessionId, [retrying(1)]);
        expect(await other.seal(sessionId, replyId)).toEqual({ attempt: 1, text: 'Hello' });
        const end = replyCancelled(reply(1), { id: randomUUID(), content: 'Hello world' });
        const rest = replyDelta({ replyId, attempt: 1, offset: 5, text: ' world' });
        expect(await other.append(sessionId, [rest, end])).toMatchObject({ status: 'appended' });
      });
    });

    describe('that is sealed', () => {
      it('is given as shown, each time', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello', ' wor'));
        expect(await other.seal(sessionId, replyId)).toEqual({ attempt: 1, text: 'Hello wor' });
        expect(await stream.seal(sessionId, replyId)).toEqual({ attempt: 1, text: 'Hello wor' });
      });

      it('is null where the stream does not know the reply', async () => {
        expect(await stream.seal(sessionId, replyId)).toBeNull();
        expect(await stream.seal(randomUUID(), replyId)).toBeNull();
      });

      it('refuses even the first text of a reply that had not spoken, until its end', async () => {
        await stream.seal(sessionId, replyId);

        const spoken = await other.append(sessionId, speech(replyId, 1, 'Hello'));
        const shown = await stream.shown(sessionId, [replyId]);
        const ended = await other.append(sessionId, [replyCancelled(reply(1), null)]);

        expect(spoken).toEqual({ status: 'refused' });
        expect(shown.texts.size).toBe(0);
        expect(ended).toMatchObject({ status: 'appended', cursor: { seq: 1 } });
      });

      it('refuses more text and another attempt', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello'));
        await stream.seal(sessionId, replyId);
        expect(await other.append(sessionId, [delta(1, 5, '!')])).toEqual({ status: 'refused' });
        expect(await other.append(sessionId, [delta(1, 0, 'Hello')])).toEqual({ status: 'refused' });
        expect(await other.append(sessionId, speech(replyId, 2, 'x'))).toEqual({ status: 'refused' });
      });

      it('is exactly what was appended, while a worker goes on speaking', async () => {
        for (let round = 0; round < 20; round += 1) {
          replyId = randomUUID();
          await stream.append(sessionId, speech(replyId, 1));
          let accepted = '';
          const speaking = (async () => {
            while ((await other.append(sessionId, [delta(1, accepted.length, 'x')])).status === 'appended') {
              accepted += 'x';
            }
          })();
          await eventually(() => accepted.length > 3);

          const sealed = await stream.seal(sessionId, replyId);

          await speaking;
          expect(sealed).toEqual({ attempt: 1, text: accepted });
        }
      });

      it('takes the text it lacks together with its end', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello'));
        await stream.seal(sessionId, replyId);
        const result = await other.append(sessionId, [
          delta(1, 5, ' world'),
          replyCancelled(reply(1), message('Hello world')),
        ]);
        expect(result).toMatchObject({ status: 'appended', cursor: { seq: 4 } });
      });

      it('takes a later attempt whole together with its end', async () => {
        await stream.append(sessionId, speech(replyId, 1, 'Hello'));
        await stream.seal(sessionId, replyId);
        const result = await other.append(sessionId, [
          ...speech(replyId, 2, 'Howdy'),
          replyCancelled(reply(2), message('Howdy')),
        ]);
        expect(result).toMatchObject({ status: 'appended', cursor: { seq: 5 } });
      });
    });
  });

  describe('read', () => {
    it('gives at most the limit, and the cursor behind it', async () => {
      await stream.append(
        sessionId,
        upTo(5).map((i) => messageCreated(message(`${i}`))),
      );
      const first = await other.read(sessionId, start, 3);
      const rest = await other.read(sessionId, { ...start, seq: 3 }, 3);
      expect(first).toMatchObject({ status: 'events', cursor: { ...start, seq: 3 }, hasMore: true });
      expect(first.status === 'events' && seqsOf(first.events)).toEqual([1, 2, 3]);
      expect(rest).toMatchObject({ status: 'events', cursor: { ...start, seq: 5 }, hasMore: false });
      expect(rest.status === 'events' && seqsOf(rest.events)).toEqual([4, 5]);
    });

    it('ends with the entry that passes the size of a read, be it the first', async () => {
      const half = 'x'.repeat(MAX_READ_BYTES / 2);
      for (const content of [half, half, half, half + half, 'the last']) {
        await stream.append(sessionId, [messageCreated(message(content))]);
      }
      const pages: number[][] = [];
      for (let cursor = start, hasMore = true; hasMore;) {
        const page = await other.read(sessionId, cursor, 10);
        if (page.status === 'lost') throw new Error('lost');
        pages.push(seqsOf(page.events));
        ({ cursor, hasMore } = page);
      }
      expect(pages).toEqual([[1, 2], [3, 4], [5]]);
    });

    it('gives nothing, and the same cursor, at the head', async () => {
      expect(await stream.read(sessionId, start, 10)).toEqual({
        status: 'events',
        events: [],
        cursor: start,
        hasMore: false,
      });
    });

    it.each([
      ['another generation', (at: Cursor) => ({ ...at, generation: '0123456789abcdef' })],
      ['a number still to come', (at: Cursor) => ({ ...at, seq: at.seq + 1 })],
      ['a number beyond all numbers', (at: Cursor) => ({ ...at, seq: 999_999_999_999_999 })],
    ])('is lost at %s', async (_what, wrong) => {
      await stream.append(sessionId, [messageCreated(message())]);
      const head = await stream.head(sessionId);
      expect(await stream.read(sessionId, wrong(head), 10)).toEqual({ status: 'lost' });
    });

    it('is lost at a cursor of another session, or where there is no stream', async () => {
      const another = await stream.head(randomUUID());
      expect(await stream.read(sessionId, another, 10)).toEqual({ status: 'lost' });
      expect(await stream.read(randomUUID(), start, 10)).toEqual({ status: 'lost' });
    });

    it('is lost where entries after the cursor have expired', async () => {
      await stream.append(
        sessionId,
        upTo(5).map((i) => messageCreated(message(`${i}`))),
      );
      await store.expire(sessionId, 3);
      expect(await stream.read(sessionId, { ...start, seq: 2 }, 10)).toEqual({ status: 'lost' });
      expect(seqsOf(await readAll(stream, sessionId, { ...start, seq: 3 }))).toEqual([4, 5]);
      await store.expire(sessionId, 5);
      expect(await stream.read(sessionId, { ...start, seq: 4 }, 10)).toEqual({ status: 'lost' });
      expect(await readAll(stream, sessionId, { ...start, seq: 5 })).toEqual([]);
    });

    it('is lost after the stream was lost and began anew', async () => {
      await stream.append(sessionId, [messageCreated(message())]);
      const cursor = await stream.head(sessionId);
      await store.lose(sessionId);
      await stream.append(sessionId, [messageCreated(message()), messageCreated(message())]);
      expect(await stream.read(sessionId, cursor, 10)).toEqual({ status: 'lost' });
    });
  });

  it('shows texts that agree with the cursor, while another process writes', async () => {
    const replyId = randomUUID();
    await stream.append(sessionId, speech(replyId, 1));
    let isWriting = true;
    const writing = (async () => {
      for (let offset = 0; isWriting; offset += 2) {
        await other.append(sessionId, [replyDelta({ replyId, attempt: 1, offset, text: `${offset % 10}.` })]);
      }
    })();

    const seen: Awaited<ReturnType<EventStream['shown']>>[] = [];
    const hasGrown = (): boolean => seen.at(-1)!.cursor.seq > seen[0]!.cursor.seq;
    while (seen.length < 50 || !hasGrown()) seen.push(await stream.shown(sessionId, [replyId, randomUUID()]));

    isWriting = false;
    await writing;
    const events = await readAll(stream, sessionId, start);
    for (const { cursor, texts } of seen) {
      const text = events
        .filter(({ seq, type }) => seq <= cursor.seq && type === EventType.ReplyDelta)
        .map(({ data }) => (JSON.parse(data) as { text: string }).text)
        .join('');
      expect([...texts]).toEqual([[replyId, { attempt: 1, text }]]);
    }
  });

  it('shows a head also where there is no stream yet, and keeps it', async () => {
    const fresh = randomUUID();
    const { cursor, texts } = await stream.shown(fresh, [randomUUID()]);
    expect(texts.size).toBe(0);
    expect(await other.head(fresh)).toEqual(cursor);
  });

  describe('erase', () => {
    it('leaves no text in the store', async () => {
      const canary = `canary-${randomUUID()}`;
      const [open_, final] = [randomUUID(), randomUUID()];
      await stream.append(sessionId, [
        messageCreated(message(canary)),
        ...speech(final, 1, canary),
        replyCompleted({ id: final, attempt: 1 }, message(canary)),
        ...speech(open_, 1, canary),
      ]);
      expect(await store.dump()).toContain(canary);

      await stream.erase(sessionId);

      const dump = await store.dump();
      for (const trace of [canary, open_, final]) expect(dump).not.toContain(trace);
    });

    it('tells watchers, and refuses appends from then on', async () => {
      await stream.append(sessionId, [messageCreated(message())]);
      const head = await stream.head(sessionId);
      await stream.erase(sessionId);
      await other.erase(sessionId);

      expect(await other.append(sessionId, [messageCreated(message())])).toEqual({ status: 'refused' });
      expect(await other.head(sessionId)).toEqual({ ...head, seq: 2 });
      expect(await readAll(other, sessionId, head)).toEqual([
        { seq: 2, type: EventType.SessionDeleted, data: '{}' },
      ]);
      expect(await other.read(sessionId, start, 10)).toEqual({ status: 'lost' });
    });

    it('also refuses appends where there was no stream', async () => {
      const fresh = randomUUID();
      await stream.erase(fresh);
      expect(await other.append(fresh, [messageCreated(message())])).toEqual({ status: 'refused' });
    });
  });

  describe('subscribe', () => {
    it('tells of entries appended from then on by any process', async () => {
      const seen = new Set<number>();
      let looks = 0;
      const listener: StreamListener = (news) => {
        if (news === null) looks += 1;
        for (const { seq } of news?.events ?? []) seen.add(seq);
      };
      await stream.subscribe(sessionId, listener);

      await other.append(sessionId, [messageCreated(message())]);
      await eventually(() => seen.has(1) || looks > 0);
      await other.append(sessionId, [messageCreated(message()), messageCreated(message())]);
      await eventually(() => seen.has(2) && seen.has(3));
      await stream.append(sessionId, [messageCreated(message())]);
      await eventually(() => seen.has(4));
    });

    it('tells of news too large to be pushed', async () => {
      let looks = 0;
      const seen = new Set<number>();
      await stream.subscribe(sessionId, (news) => {
        if (news === null) looks += 1;
        for (const { seq } of news?.events ?? []) seen.add(seq);
      });
      await other.append(sessionId, [messageCreated(message('x'.repeat(200_000)))]);
      await eventually(() => looks > 0 || seen.has(1));
    });

    it('keeps one subscription for all listeners of a session, and ends it after the last', async () => {
      const calls = [0, 0];
      const unsubscribes = await Promise.all(
        calls.map((_, i) =>
          stream.subscribe(sessionId, () => {
            calls[i]! += 1;
          }),
        ),
      );
      expect([1, null]).toContain(await store.subscriptions(sessionId));

      const before = [...calls];
      unsubscribes[0]!();
      unsubscribes[0]!();
      await other.append(sessionId, [messageCreated(message())]);
      await eventually(() => calls[1]! > before[1]!);
      expect(calls[0]).toBe(before[0]);

      const atLast = [...calls];
      unsubscribes[1]!();
      await eventually(async () => [0, null].includes(await store.subscriptions(sessionId)));
      await other.append(sessionId, [messageCreated(message())]);
      // Another session's news, which come after this one's, show that it had its chance.
      const later = randomUUID();
      let isCalled = false;
      await stream.subscribe(later, () => {
        isCalled = true;
      });
      await other.append(later, [messageCreated(message())]);
      await eventually(() => isCalled);
      expect(calls).toEqual(atLast);
    });

    it('survives that the last listener leaves while the next one comes', async () => {
      for (let i = 0; i < 20; i += 1) {
        const leave = await stream.subscribe(sessionId, () => undefined);
        let isCalled = false;
        const joining = stream.subscribe(sessionId, () => {
          isCalled = true;
        });
        leave();
        const leaveToo = await joining;
        await other.append(sessionId, [messageCreated(message())]);
        await eventually(() => isCalled);
        leaveToo();
      }
      await eventually(async () => [0, null].includes(await store.subscriptions(sessionId)));
    });

    it('goes on for the others when a listener throws', async () => {
      let isCalled = false;
      await stream.subscribe(sessionId, () => {
        throw new Error('a bug');
      });
      await stream.subscribe(sessionId, () => {
        isCalled = true;
      });
      await other.append(sessionId, [messageCreated(message())]);
      await eventually(() => isCalled);
    });

    it('says "look" to every listener after the connection was cut', async () => {
      const looked = new Set<number>();
      await Promise.all(
        upTo(3).map((i) =>
          stream.subscribe(i === 1 ? sessionId : randomUUID(), (news) => {
            if (news === null) looked.add(i);
          }),
        ),
      );
      expect(await store.cutListeners()).toBeGreaterThan(0);
      await eventually(() => looked.size === 3);
    });
  });

  (defaultPort === null ? describe.skip : describe)('when the store is silent', () => {
    let proxy: TcpProxy;
    let far: EventStream;

    beforeEach(async () => {
      proxy = await startTcpProxy(store.url, defaultPort!);
      far = open(proxy.url, SHORT_DEADLINE_MS);
    });

    afterEach(() => proxy.close());

    const calls: Record<string, (each: EventStream) => Promise<unknown>> = {
      head: (each) => each.head(sessionId),
      append: (each) => each.append(sessionId, [messageCreated(message())]),
      read: (each) => each.read(sessionId, start, 10),
      shown: (each) => each.shown(sessionId, [randomUUID()]),
      seal: (each) => each.seal(sessionId, randomUUID()),
      erase: (each) => each.erase(randomUUID()),
      prune: (each) => each.prune(),
      ping: (each) => each.ping(),
    };
    const subscribe = (each: EventStream) => each.subscribe(randomUUID(), () => undefined);
    // Redis prunes by itself.
    if (defaultPort === 6379) delete calls.prune;

    async function expectUnavailable(tried: typeof calls): Promise<void> {
      const from = performance.now();
      const outcomes = await Promise.all(
        Object.entries(tried).map(([name, call]) =>
          call(far).then(
            () => [name, 'settled'],
            (error: unknown) => [name, error],
          ),
        ),
      );
      expect(performance.now() - from).toBeLessThan(SHORT_DEADLINE_MS + 5_000); // far from any other deadline
      expect(outcomes).toEqual(
        Object.keys(tried).map((name) => [name, expect.any(EventStreamUnavailableError)]),
      );
    }

    it('every call fails within its deadline, from the start', async () => {
      proxy.swallow('both');
      await expectUnavailable({ ...calls, subscribe });
    });

    it('every call fails within its deadline, and works again afterwards', async () => {
      // A subscription that stands is not a call: it lasts until the silence is noticed.
      await subscribe(far);
      for (const call of Object.values(calls)) await call(far);
      proxy.swallow('both');
      await expectUnavailable(calls);
      proxy.recover();
      await eventually(() =>
        far.ping().then(
          () => true,
          () => false,
        ),
      );
      for (const call of Object.values(calls)) await call(far);
      await subscribe(far);
    });

    it('a follower waits, and goes on where it was', async () => {
      const seqs: number[] = [];
      const abort = new AbortController();
      const following = (async () => {
        for await (const news of follow(far, sessionId, start, abort.signal, 500)) {
          if (news === 'lost') throw new Error('lost');
          seqs.push(...seqsOf(news.events));
        }
      })();
      await stream.append(sessionId, [messageCreated(message())]);
      await eventually(() => seqs.length === 1);
      proxy.swallow('both');
      await stream.append(sessionId, [messageCreated(message())]);
      await expect(far.ping()).rejects.toThrow(EventStreamUnavailableError);
      proxy.recover();
      await eventually(() => seqs.length === 2);
      await stream.append(sessionId, [messageCreated(message())]);
      await eventually(() => seqs.length === 3);
      abort.abort();
      await following;
      expect(seqs).toEqual([1, 2, 3]);
    });
  });

  describe('follow', () => {
    /** Follows until `session.deleted`, or until as many events came. */
    async function collect(
      reader: Parameters<typeof follow>[0],
      after: Cursor,
      count: number,
      options: { pauseMs?: () => number; rereadIntervalMs?: number; events?: StreamEvent[] } = {},
    ): Promise<StreamEvent[]> {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const { events = [], rereadIntervalMs = NEVER_MS } = options;
      for await (const news of follow(reader, sessionId, after, signal, rereadIntervalMs)) {
        if (news === 'lost') throw new Error('lost');
        events.push(...news.events);
        expect(news.cursor).toEqual({ generation: after.generation, seq: events.at(-1)!.seq });
        if (events.length >= count) break;
        if (options.pauseMs) await sleep(options.pauseMs());
      }
      return events;
    }

    it('gives what is in the log, and then what comes', async () => {
      await stream.append(
        sessionId,
        upTo(450).map((i) => messageCreated(message(`${i}`))),
      );
      const reader = watched(other);
      const following = collect(reader, start, 452);
      await reader.hasRead(3); // all that there is
      await stream.append(sessionId, [messageCreated(message())]);
      await stream.append(sessionId, [messageCreated(message())]);
      expect(seqsOf(await following)).toEqual(upTo(452));
    });

    it('misses nothing and repeats nothing, whenever 200 watchers come', async () => {
      const total = 300;
      const readers = [stream, other];
      const watching: Promise<void>[] = [];
      const appending = (async () => {
        for (let i = 0; i < total; i += 1) {
          await readers[i % 2]!.append(sessionId, [messageCreated(message(`${i}`))]);
          if (i % 3 === 0) await sleep(1);
        }
      })();
      for (let i = 0; i < 200; i += 1) {
        watching.push(
          (async () => {
            await sleep(Math.random() * 400);
            const { seq } = await readers[i % 2]!.head(sessionId);
            const from = Math.floor(Math.random() * (seq + 1));
            const isSlow = i % 10 === 0;
            const events = await collect(
              readers[i % 2]!,
              { ...start, seq: from },
              total - from,
              isSlow ? { pauseMs: () => Math.random() * 30 } : {},
            );
            expect(seqsOf(events)).toEqual(upTo(total).slice(from));
          })(),
        );
      }
      await Promise.all([appending, ...watching]);
      await eventually(async () => [0, null].includes(await store.subscriptions(sessionId)));
    });

    it('catches up without a reread when the listening connections are cut mid-way', async () => {
      const reader = watched(other);
      const following = collect(reader, start, 60);
      await reader.hasRead(1); // and listens
      for (let i = 0; i < 60; i += 1) {
        await stream.append(sessionId, [messageCreated(message(`${i}`))]);
        if (i === 20) expect(await store.cutListeners()).toBeGreaterThan(0);
        await sleep(2);
      }
      expect(seqsOf(await following)).toEqual(upTo(60));
    });

    it('gives a slow consumer everything, from the log where too much was waiting', async () => {
      const text = 'x'.repeat(30_000);
      const reader = watched(other);
      const following = collect(reader, start, 60, { pauseMs: () => 100 });
      await reader.hasRead(1);
      for (let i = 0; i < 60; i += 1) await stream.append(sessionId, [messageCreated(message(text))]);
      expect(seqsOf(await following)).toEqual(upTo(60));
    });

    it('gives a burst that is more than what is told at a time', async () => {
      const reader = watched(other);
      const events: StreamEvent[] = [];
      const following = collect(reader, start, 501, { events });
      await reader.hasRead(1);
      await stream.append(sessionId, [messageCreated(message())]);
      await eventually(() => events.length === 1);
      await stream.append(
        sessionId,
        upTo(500).map((i) => messageCreated(message(`${i}`))),
      );
      expect(seqsOf(await following)).toEqual(upTo(501));
    });

    it('takes what listeners are told only where it continues the cursor', async () => {
      let tell: StreamListener | undefined;
      const told = watched({
        subscribe: async (_sessionId, listener) => {
          tell = listener;
          return () => undefined;
        },
        read: other.read.bind(other),
      });
      const following = collect(told, start, 5);
      await told.hasRead(1);
      await stream.append(
        sessionId,
        upTo(5).map((i) => messageCreated(message(`${i}`))),
      );
      const events = await readAll(stream, sessionId, start);
      const { generation } = start;

      tell!({ generation, events: events.slice(0, 2) });
      tell!({ generation, events: events.slice(1, 3) });
      tell!({ generation: '0123456789abcdef', events: [{ ...events[3]!, data: '"of another stream"' }] });
      await told.hasRead(2);
      tell!({ generation, events: events.slice(4) });

      expect(await following).toEqual(events);
    });

    it('reads the log where what listeners are told leaves a gap', async () => {
      let tell: StreamListener | undefined;
      const gap = watched({
        subscribe: async (_sessionId, listener) => {
          tell = listener;
          return () => undefined;
        },
        read: other.read.bind(other),
      });
      const following = collect(gap, start, 3);
      await gap.hasRead(1);
      await stream.append(
        sessionId,
        upTo(3).map((i) => messageCreated(message(`${i}`))),
      );
      const events = await readAll(stream, sessionId, start);

      tell!({ generation: start.generation, events: events.slice(2) });

      expect(await following).toEqual(events);
    });

    it('reads only when listening has begun', async () => {
      const asked = Promise.withResolvers<void>();
      const appended = Promise.withResolvers<void>();
      const slow = {
        subscribe: async (...args: Parameters<EventStream['subscribe']>) => {
          asked.resolve();
          await appended.promise;
          return other.subscribe(...args);
        },
        read: other.read.bind(other),
      };
      const following = collect(slow, start, 1);
      await asked.promise;
      await stream.append(sessionId, [messageCreated(message())]);
      appended.resolve();
      expect(seqsOf(await following)).toEqual([1]);
    });

    it('finds by rereading what no notification named', async () => {
      const deaf = watched({
        subscribe: async () => () => undefined,
        read: other.read.bind(other),
      });
      const following = collect(deaf, start, 2, { rereadIntervalMs: 50 });
      await deaf.hasRead(1);
      await stream.append(sessionId, [messageCreated(message()), messageCreated(message())]);
      expect(seqsOf(await following)).toEqual([1, 2]);
    });

    it('says lost, and ends, where the log cannot continue', async () => {
      const signal = new AbortController().signal;
      const wrong = { generation: '0123456789abcdef', seq: 0 };
      expect(await toArray(follow(stream, sessionId, wrong, signal))).toEqual(['lost']);
    });

    it('says lost when the stream is lost and begins anew under a watcher', async () => {
      await stream.append(sessionId, [messageCreated(message())]);
      const reader = watched(other);
      const following = toArray(follow(reader, sessionId, start, AbortSignal.timeout(PATIENCE_MS), 200));
      await reader.hasRead(1);
      await store.lose(sessionId);
      await stream.append(sessionId, [messageCreated(message())]);
      const news = await following;
      expect(news.at(-1)).toBe('lost');
      expect(news).toHaveLength(2);
    });

    it('tells a watcher that the session was deleted', async () => {
      const events: StreamEvent[] = [];
      const following = collect(other, start, 2, { events });
      await stream.append(sessionId, [messageCreated(message())]);
      await eventually(() => events.length === 1);
      await stream.erase(sessionId);
      expect(typesOf(await following)).toEqual([EventType.MessageCreated, EventType.SessionDeleted]);
    });

    it('ends at once when aborted, whatever it is waiting for, and releases its subscription', async () => {
      for (const delayMs of [0, 1, 2, 5, 50]) {
        const abort = new AbortController();
        const following = toArray(follow(stream, sessionId, start, abort.signal, NEVER_MS));
        await sleep(delayMs);
        abort.abort();
        expect(await following).toEqual([]);
      }
      await eventually(async () => [0, null].includes(await store.subscriptions(sessionId)));
      expect(await toArray(follow(stream, sessionId, start, AbortSignal.abort()))).toEqual([]);
    });

    it('releases its subscription when the consumer throws', async () => {
      await stream.append(sessionId, [messageCreated(message())]);
      const consume = async () => {
        for await (const news of follow(stream, sessionId, start, AbortSignal.timeout(PATIENCE_MS))) {
          throw new Error(`a bug with ${String(news)}`);
        }
      };
      await expect(consume()).rejects.toThrow('a bug');
      await eventually(async () => [0, null].includes(await store.subscriptions(sessionId)));
    });
  });
});

describe('the event stream on PostgreSQL, over time', () => {
  let database: pg.Client;
  let store: Store;

  beforeAll(async () => {
    store = await postgresStore();
    database = new pg.Client({ connectionString: store.url });
    await database.connect();
  });

  afterAll(async () => {
    await database.end();
    await store.close();
  });

  it('prunes entries, then replies and streams, that were not touched for the retention time', async () => {
    const { stream, release } = store.open(store.url);
    const [old, young] = [randomUUID(), randomUUID()];
    for (const sessionId of [old, young]) {
      await stream.append(sessionId, [messageCreated(message()), ...speech(randomUUID(), 1, 'x')]);
    }
    await stream.erase(young);
    for (const [table, column] of [
      ['event_stream_entries', 'created_at'],
      ['event_stream_replies', 'touched_at'],
      ['event_streams', 'touched_at'],
    ]) {
      await database.query(
        `UPDATE ${table} SET ${column} = ${column} - $1 * interval '1 ms' WHERE session_id = $2`,
        [STREAM_RETENTION_MS, old],
      );
    }

    await stream.prune();

    const dump = await store.dump();
    expect(dump).not.toContain(old);
    expect(dump).toContain(young);
    await release();
  });

  it('keeps the tombstone of an erased session for a minute, and goes on refusing to append', async () => {
    const { stream, release } = store.open(store.url);
    const sessionId = randomUUID();
    const before = await stream.head(sessionId);
    await stream.erase(sessionId);
    await stream.prune();
    expect(await stream.read(sessionId, before, 10)).toMatchObject({ events: [{ type: 'session.deleted' }] });

    await database.query(
      `UPDATE event_streams SET erased_at = erased_at - interval '61 s' WHERE session_id = $1`,
      [sessionId],
    );
    await stream.prune();

    expect(await stream.read(sessionId, before, 10)).toEqual({ status: 'lost' });
    expect(await stream.append(sessionId, [messageCreated(message())])).toMatchObject({ status: 'refused' });
    await release();
  });
});

describe('the event stream on Redis, over time', () => {
  it('begins anew when an eviction left only a part of its keys', async () => {
    const store = await redisStore();
    const { stream, release } = store.open(store.url);
    const redis = new Redis(store.url);
    const [sessionId, replyId] = [randomUUID(), randomUUID()];
    const fact = messageCreated(message());
    const before = await stream.head(sessionId);
    await stream.append(sessionId, [fact, ...speech(replyId, 1, 'before')]);
    await redis.del((await redis.keys(`*{${sessionId}}:meta`))[0]!);

    const result = await stream.append(sessionId, [fact, ...speech(replyId, 1, 'after')]);

    expect(result).toMatchObject({ status: 'appended', cursor: { seq: 3 } });
    expect((await stream.shown(sessionId, [replyId])).texts.get(replyId)).toEqual({
      attempt: 1,
      text: 'after',
    });
    expect(await stream.read(sessionId, before, 10)).toEqual({ status: 'lost' });
    await redis.quit();
    await release();
    await store.close();
  });

  it('keeps a bounded log, with the keys and replies of what is in it, and lets all of it expire', async () => {
    const store = await redisStore();
    const { stream, release } = store.open(store.url);
    const redis = new Redis(store.url);
    const sessionId = randomUUID();
    const start = await stream.head(sessionId);
    const first = randomUUID();
    await stream.append(sessionId, speech(first, 1, 'x'));
    for (let i = 0; i < 105; i += 1) {
      await stream.append(
        sessionId,
        upTo(100).map(() => messageCreated(message())),
      );
    }
    const last = randomUUID();
    await stream.append(sessionId, speech(last, 1, 'x'));

    const keys = await redis.keys(`*{${sessionId}}*`);
    const base = keys.find((key) => key.endsWith(':meta'))!.slice(0, -':meta'.length);
    expect(await redis.xlen(`${base}:log`)).toBeLessThanOrEqual(10_100);
    expect(await redis.scard(`${base}:keys`)).toBeLessThanOrEqual(10_100);
    expect(await redis.hkeys(`${base}:replies`)).toEqual([last]);
    expect(keys.filter((key) => key.includes(':text:'))).toEqual([`${base}:text:${last}`]);
    for (const key of keys) {
      const ttl = await redis.pttl(key);
      expect(ttl).toBeGreaterThan(STREAM_RETENTION_MS - 60_000);
      expect(ttl).toBeLessThanOrEqual(STREAM_RETENTION_MS);
    }
    expect(await stream.read(sessionId, start, 10)).toEqual({ status: 'lost' });
    const head = await stream.head(sessionId);
    expect(await readAll(stream, sessionId, { ...head, seq: head.seq - 9_000 })).toHaveLength(9_000);
    await redis.quit();
    await release();
    await store.close();
  });
});
