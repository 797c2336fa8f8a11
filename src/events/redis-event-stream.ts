import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { connectRedis, PROOF_TTL_MS, proofKey, type RedisSettings } from '../redis/redis-connection.js';
import { withinDeadline } from './deadline.js';
import { sessionDeleted } from './entries.js';
import { EventStream, TOMBSTONE_RETENTION_MS, MAX_READ_BYTES, STREAM_RETENTION_MS } from './event-stream.js';
import type {
  AppendResult,
  Cursor,
  EventType,
  OnError,
  ReadResult,
  ShownText,
  StreamEntry,
  StreamEvent,
  StreamListener,
  StreamNews,
} from './event-stream.js';
import { APPEND_LUA, ERASE_LUA, HEAD_LUA, READ_LUA, SEAL_LUA, SHOWN_LUA } from './redis-event-stream.lua.js';
import { Refusals } from '../redis/refusals.js';
import { StoreClock } from './store-clock.js';
import { toReadResult, toRecords, toShownText } from './records.js';

/** Entries a session's log keeps, and how many more before it is trimmed: hours of talk, about 2 MB of deltas. */
const LOG_CAP = 10_000;
const LOG_SLACK = 100;

/** Larger news are published without content, in bytes: Redis would hold a copy for every process that listens. */
const MAX_NEWS_BYTES = 65_536;

/** Channels that are named in one SUBSCRIBE after a reconnection. */
const RESUBSCRIBE_BATCH = 1_000;

const MAX_BACKOFF_MS = 2_000;

/** How often a process proves that its Redis takes writes, in milliseconds: one that became a replica goes on answering. */
const PROOF_INTERVAL_MS = 2_000;

/** The Lua scripts as commands; each takes the session's base key first. */
interface Scripts {
  streamHead(base: string, ...args: (string | number)[]): Promise<[string, number]>;
  streamAppend(base: string, ...args: (string | number)[]): Promise<string>;
  streamRead(
    base: string,
    ...args: (string | number)[]
  ): Promise<[] | [string, number, ...(string | number)[]]>;
  streamShown(
    base: string,
    ...args: (string | number)[]
  ): Promise<[string, number, ...[string, number, number, string][]]>;
  streamSeal(base: string, ...args: (string | number)[]): Promise<[] | [number, number, string]>;
  streamErase(base: string, ...args: (string | number)[]): Promise<null>;
}

/** The listeners of a session in this process. */
interface Channel {
  listeners: Set<{ notify: StreamListener }>;
  /** Settles when Redis has confirmed the subscription; null while it is to be asked for (again). */
  inForce: Promise<unknown> | null;
}

/**
 * The event stream in Redis: a capped stream for each session, live by pub/sub. Pub/sub delivers at most once,
 * and what is published while this process reconnects is gone; so every listener is called with null afterwards.
 */
export class RedisEventStream extends EventStream {
  private readonly prefix: string;
  private readonly deadlineMs: number;
  private readonly onError: OnError;
  private readonly commands: Redis & Scripts;
  /** A connection of its own: commands must not wait behind a flood of news. */
  private readonly subscriber: Redis;
  private readonly connecting = new Map<Redis, Promise<void>>();
  private readonly refusals = new Refusals();
  private readonly proving: NodeJS.Timeout;
  private readonly channels = new Map<string, Channel>();
  private readonly clock = new StoreClock(async () => {
    const [seconds, microseconds] = await this.run('time', (redis) => redis.time());
    return Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  });

  /**
   * @param options.prefix begins every key and channel
   * @param options.onError called with failures that no call reports; a reread makes up for each of them
   */
  constructor(options: { settings: RedisSettings; prefix: string; deadlineMs: number; onError: OnError }) {
    super();
    this.prefix = options.prefix;
    this.deadlineMs = options.deadlineMs;
    this.onError = options.onError;
    this.commands = connection(options.settings, options.deadlineMs) as Redis & Scripts;
    const scripts = {
      streamHead: HEAD_LUA,
      streamAppend: APPEND_LUA,
      streamRead: READ_LUA,
      streamShown: SHOWN_LUA,
      streamSeal: SEAL_LUA,
      streamErase: ERASE_LUA,
    };
    for (const [name, lua] of Object.entries(scripts)) {
      this.commands.defineCommand(name, { lua, numberOfKeys: 1 });
    }
    this.subscriber = connection(options.settings, options.deadlineMs);
    this.commands.on('error', (error) =>
      this.onError(
        error,
        'event_stream.connection_failed',
        'the connection to Redis of the event stream failed and is made again: calls fail meanwhile',
      ),
    );
    this.subscriber.on('error', (error) =>
      this.onError(
        error,
        'event_stream.listen_failed',
        'the event stream lost the connection that listens and connects again: subscribers then read the log',
      ),
    );
    this.subscriber.on('message', (name, payload) => this.notify(name, parseNews(payload, this.clock)));
    this.subscriber.on('close', () => {
      for (const channel of this.channels.values()) channel.inForce = null;
    });
    this.subscriber.on('ready', () => void this.resubscribe());
    // Where the commands go anew, news come from: a subscription to what became a replica would last, and be silent.
    this.commands.on('close', () => {
      if (this.subscriber.status === 'ready') this.subscriber.disconnect(true);
    });
    this.proving = setInterval(() => void this.prove(), PROOF_INTERVAL_MS).unref();
  }

  override async head(sessionId: string): Promise<Cursor> {
    const [generation, seq] = await this.run('head', (redis) =>
      redis.streamHead(this.base(sessionId), newGeneration(), STREAM_RETENTION_MS),
    );
    return { generation, seq };
  }

  override async append(sessionId: string, entries: readonly StreamEntry[]): Promise<AppendResult> {
    const records = JSON.stringify(toRecords(entries));
    const result = await this.run('append', (redis) =>
      redis.streamAppend(
        this.base(sessionId),
        newGeneration(),
        STREAM_RETENTION_MS,
        LOG_CAP,
        LOG_SLACK,
        MAX_NEWS_BYTES,
        records,
      ),
    );
    return JSON.parse(result) as AppendResult;
  }

  override async read(sessionId: string, after: Cursor, limit: number): Promise<ReadResult> {
    const [generation, seq, ...fields] = await this.run('read', (redis) =>
      redis.streamRead(this.base(sessionId), after.seq, limit, MAX_READ_BYTES),
    );
    if (generation === undefined || seq === undefined) return toReadResult(after, null, []);
    const events: StreamEvent[] = [];
    for (let i = 0; i < fields.length; i += 3) {
      events.push({
        seq: fields[i] as number,
        type: fields[i + 1] as EventType,
        data: fields[i + 2] as string,
      });
    }
    return toReadResult(after, { generation, seq }, events);
  }

  override async shown(
    sessionId: string,
    replyIds: readonly string[],
  ): Promise<{ cursor: Cursor; texts: Map<string, ShownText> }> {
    const [generation, seq, ...replies] = await this.run('shown', (redis) =>
      redis.streamShown(this.base(sessionId), newGeneration(), STREAM_RETENTION_MS, ...replyIds),
    );
    const texts = new Map<string, ShownText>();
    for (const [replyId, attempt, length, text] of replies) {
      const shown = toShownText(attempt, length, text);
      if (shown) texts.set(replyId, shown);
    }
    return { cursor: { generation, seq }, texts };
  }

  override async seal(sessionId: string, replyId: string): Promise<ShownText | null> {
    const sealed = await this.run('seal', (redis) =>
      redis.streamSeal(this.base(sessionId), replyId, newGeneration(), STREAM_RETENTION_MS),
    );
    return sealed.length === 0 ? null : toShownText(...sealed);
  }

  override async erase(sessionId: string): Promise<void> {
    const { type, data } = sessionDeleted();
    await this.run('erase', (redis) =>
      redis.streamErase(
        this.base(sessionId),
        newGeneration(),
        STREAM_RETENTION_MS,
        TOMBSTONE_RETENTION_MS,
        MAX_NEWS_BYTES,
        type,
        JSON.stringify(data),
      ),
    );
  }

  override async subscribe(sessionId: string, listener: StreamListener): Promise<() => void> {
    const name = `${this.base(sessionId)}:news`;
    let channel = this.channels.get(name);
    if (!channel) {
      channel = { listeners: new Set(), inForce: null };
      this.channels.set(name, channel);
    }
    const { listeners } = channel;
    const entry = { notify: listener };
    listeners.add(entry);
    const unsubscribe = (): void => {
      if (!listeners.delete(entry) || listeners.size > 0) return;
      this.channels.delete(name);
      // Without a connection there is nothing to end: the next one asks for the channels that are left.
      if (this.subscriber.status !== 'ready') return;
      this.subscriber.unsubscribe(name).catch((error: Error) => {
        this.onError(
          error,
          'event_stream.unsubscribe_failed',
          'a channel of the event stream could not be unsubscribed: its messages are ignored',
        );
      });
    };
    try {
      await this.within(this.inForce(name, channel));
    } catch (error) {
      unsubscribe();
      throw error;
    }
    return unsubscribe;
  }

  override async ping(): Promise<void> {
    await this.proveWrite();
    // Nothing is published there: it proves that this connection answers, and may listen.
    await this.within(
      this.connected(this.subscriber).then(() => this.subscriber.subscribe(`${this.prefix}:proof`)),
    );
    this.refusals.check();
  }

  /** Nothing to do: keys expire by themselves, and appends trim the log. */
  override async prune(): Promise<void> {}

  override async close(): Promise<void> {
    clearInterval(this.proving);
    this.channels.clear();
    // After the answers to what is under way, where there is someone to answer.
    if (this.commands.status === 'ready') await this.within(this.commands.quit()).catch(() => undefined);
    this.commands.disconnect();
    this.subscriber.disconnect();
  }

  /** Tells a failover also to a process that only listens. */
  private async prove(): Promise<void> {
    if (this.commands.status !== 'ready') return;
    await this.proveWrite().catch((error: Error) =>
      this.onError(
        error,
        'event_stream.proof_failed',
        'the event stream could not prove that its Redis takes writes: it proves it again in seconds',
      ),
    );
  }

  private async proveWrite(): Promise<void> {
    await this.run('proof', (redis) => redis.set(proofKey(this.prefix, 'events'), '1', 'PX', PROOF_TTL_MS));
  }

  /** All keys of a session share a hash tag, thus a slot. */
  private base(sessionId: string): string {
    return `${this.prefix}:{${sessionId}}`;
  }

  private run<T>(what: string, command: (redis: Redis & Scripts) => Promise<T>): Promise<T> {
    const asked = this.connected(this.commands).then(() => command(this.commands));
    return this.within(this.refusals.watch(what, asked));
  }

  /** Waits for the first connection only; later ones are made in the background, and calls fail meanwhile. */
  private within<T>(work: Promise<T>): Promise<T> {
    return withinDeadline(this.deadlineMs, work);
  }

  private connected(redis: Redis): Promise<void> {
    let connecting = this.connecting.get(redis);
    if (!connecting) {
      connecting = redis.connect().catch((error: unknown) => {
        this.connecting.set(redis, Promise.resolve());
        throw error;
      });
      this.connecting.set(redis, connecting);
    }
    return connecting;
  }

  private async inForce(name: string, channel: Channel): Promise<void> {
    await this.connected(this.subscriber);
    channel.inForce ??= this.subscriber.subscribe(name);
    try {
      await channel.inForce;
    } catch (error) {
      channel.inForce = null;
      throw error;
    }
  }

  /** ioredis can resubscribe by itself, but emits "ready" before it has: too early to reread. */
  private async resubscribe(): Promise<void> {
    const names = [...this.channels.keys()];
    for (let i = 0; i < names.length; i += RESUBSCRIBE_BATCH) {
      const batch = names.slice(i, i + RESUBSCRIBE_BATCH).filter((name) => this.channels.has(name));
      if (batch.length === 0) continue;
      const inForce = this.subscriber.subscribe(...batch);
      for (const name of batch) this.channels.get(name)!.inForce = inForce;
      try {
        await inForce;
      } catch (error) {
        this.onError(
          error as Error,
          'event_stream.listen_failed',
          'the event stream could not subscribe again after a reconnection: it connects once more',
        );
        // From the start, unless the connection is gone already, which leads there too.
        if (this.subscriber.status === 'ready') this.subscriber.disconnect(true);
        return;
      }
      for (const name of batch) this.notify(name, null);
    }
  }

  private notify(name: string, news: StreamNews): void {
    for (const { notify } of this.channels.get(name)?.listeners ?? []) {
      try {
        notify(news);
      } catch (error) {
        this.onError(
          error as Error,
          'event_stream.listener_failed',
          'a listener of the event stream threw an error: it missed an event until it reads the log',
        );
      }
    }
  }
}

function connection(settings: RedisSettings, deadlineMs: number): Redis {
  return connectRedis(settings, {
    lazyConnect: true,
    connectTimeout: deadlineMs,
    // Fail now rather than pile up: the rows are safe, and callers have better to do than wait.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    autoResendUnfulfilledCommands: false,
    commandTimeout: deadlineMs,
    // Given up when it is silent for so long after a command, which has failed by then, and so will the next.
    socketTimeout: deadlineMs,
    retryStrategy: (times) => Math.min(50 * 2 ** (times - 1), MAX_BACKOFF_MS) * (0.5 + Math.random() / 2),
    // See resubscribe.
    autoResubscribe: false,
  });
}

/** Used where the stream has to begin anew. 64 random bits distinguish it from the one that was lost. */
function newGeneration(): string {
  return randomBytes(8).toString('hex');
}

/** The inverse of the scripts' `publish`. */
function parseNews(payload: string, clock: StoreClock): StreamNews {
  if (payload === '') return null;
  const [head = '', ...lines] = payload.split('\n');
  const [generation, microseconds] = head.split(' ');
  const appendedAt = clock.toLocal(Number(microseconds) / 1_000) ?? undefined;
  const events = lines.map((line) => {
    const typeAt = line.indexOf(' ') + 1;
    const dataAt = line.indexOf(' ', typeAt) + 1;
    return {
      seq: Number(line.slice(0, typeAt)),
      type: line.slice(typeAt, dataAt - 1) as EventType,
      data: line.slice(dataAt),
      appendedAt,
    };
  });
  return { generation: generation!, events };
}
