import { randomBytes } from 'node:crypto';
import type { Cluster, Redis, RedisOptions } from 'ioredis';
import { firstConnection } from '../redis/first-connection.js';
import { Refusals } from '../redis/refusals.js';
import {
  connectCluster,
  disconnectCluster,
  isOnCluster,
  KeyOfEachPrimary,
  nodeOptions,
} from '../redis/redis-cluster.js';
import { connectRedis, PROOF_TTL_MS, proofKey, type RedisSettings } from '../redis/redis-connection.js';
import { ClusterChannels } from './cluster-channels.js';
import { withinDeadline } from './deadline.js';
import { sessionDeleted } from './entries.js';
import { EventStream, TOMBSTONE_RETENTION_MS, MAX_READ_BYTES, STREAM_RETENTION_MS } from './event-stream.js';
import type {
  AppendResult,
  Cursor,
  EventType,
  LoggedFact,
  OnError,
  ReadResult,
  ShownText,
  StreamEntry,
  StreamEvent,
  StreamListener,
  StreamNews,
} from './event-stream.js';
import { luaScripts } from './redis-event-stream.lua.js';
import { type ChannelOptions, type Channels, RedisChannels } from './redis-channels.js';
import { StoreClock } from './store-clock.js';
import { toReadResult, toRecords, toShownText } from './records.js';

/** Entries a session's log keeps, and how many more before it is trimmed: hours of talk, about 2 MB of deltas. */
const LOG_CAP = 10_000;
const LOG_SLACK = 100;

/** Entries read at once where the whole log is looked through. */
const FACTS_PAGE = 1_000;

/** Larger news are published without content, in bytes: Redis would hold a copy for every process that listens. */
const MAX_NEWS_BYTES = 65_536;

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

type Commands = (Redis | Cluster) & Scripts;

/** How a Redis is spoken to: one server, or a cluster of them. */
interface Link {
  commands: Redis | Cluster;
  disconnect: () => void;
  /** Of each primary. */
  proofKeys: () => Iterable<string>;
  channels: (options: ChannelOptions) => Channels;
}

/**
 * The event stream in Redis: a capped stream for each session, live by pub/sub, on a cluster spread by session.
 */
export class RedisEventStream extends EventStream {
  private readonly prefix: string;
  private readonly deadlineMs: number;
  private readonly onError: OnError;
  private readonly commands: Commands;
  private readonly connected: () => Promise<void>;
  private readonly channels: Channels;
  private readonly disconnect: Link['disconnect'];
  private readonly proofKeys: Link['proofKeys'];
  private readonly refusals = new Refusals();
  private readonly proving: NodeJS.Timeout;
  /** On a cluster of any node: their clocks are taken for one. */
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
    const { settings, prefix, deadlineMs, onError } = options;
    this.prefix = prefix;
    this.deadlineMs = deadlineMs;
    this.onError = onError;
    const { commands, disconnect, proofKeys, channels } = isOnCluster(settings)
      ? linkToCluster(settings, prefix, deadlineMs)
      : linkToServer(settings, prefix, deadlineMs);
    for (const [name, lua] of Object.entries(luaScripts(isOnCluster(settings)))) {
      commands.defineCommand(name, { lua, numberOfKeys: 1 });
    }
    commands.on('error', (error: Error) =>
      onError(
        error,
        'event_stream.connection_failed',
        'the connection to Redis of the event stream failed and is made again: calls fail meanwhile',
      ),
    );
    // Where the commands go anew, news come from: a subscription to what became a replica would last, and be silent.
    commands.on('close', () => this.channels.reconnect());
    this.commands = commands as Commands;
    this.connected = firstConnection(commands);
    this.disconnect = disconnect;
    this.proofKeys = proofKeys;
    this.channels = channels({ prefix, parse: (payload) => parseNews(payload, this.clock), onError });
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

  override async facts(sessionId: string): Promise<LoggedFact[]> {
    const facts: LoggedFact[] = [];
    for (let after = '-'; ;) {
      const page = await this.run('facts', (redis) =>
        redis.xrange(`${this.base(sessionId)}:log`, after, '+', 'COUNT', FACTS_PAGE),
      );
      for (const [, fields] of page) {
        const { key, type, at } = fieldsOf(fields);
        // Entries of an earlier version have no time.
        if (key === undefined || type === undefined || at === undefined) continue;
        facts.push({ key, type: type as EventType, at: new Date(Number(at)).toISOString() });
      }
      const last = page.at(-1);
      if (last === undefined || page.length < FACTS_PAGE) return facts;
      after = `(${last[0]}`;
    }
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
    const subscribing = this.connected().then(() =>
      this.channels.subscribe(`${this.base(sessionId)}:news`, listener),
    );
    try {
      return await this.within(subscribing);
    } catch (error) {
      // It is late, and nobody waits for it.
      subscribing.then(
        (end) => end(),
        () => undefined,
      );
      throw error;
    }
  }

  override async ping(): Promise<void> {
    await this.proveWrite();
    await this.within(this.channels.ping());
    this.refusals.check();
  }

  /** Nothing to do: keys expire by themselves, and appends trim the log. */
  override async prune(): Promise<void> {}

  override async close(): Promise<void> {
    clearInterval(this.proving);
    this.channels.close();
    // After the answers to what is under way, where there is someone to answer.
    if (this.commands.status === 'ready') await this.within(this.commands.quit()).catch(() => undefined);
    this.disconnect();
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
    await this.run('proof', (redis) =>
      Promise.all([...this.proofKeys()].map((key) => redis.set(key, '1', 'PX', PROOF_TTL_MS))),
    );
  }

  /** All keys of a session share a hash tag, thus a slot. */
  private base(sessionId: string): string {
    return `${this.prefix}:{${sessionId}}`;
  }

  private run<T>(what: string, command: (redis: Commands) => Promise<T>): Promise<T> {
    const asked = this.connected().then(() => command(this.commands));
    return this.within(this.refusals.watch(what, asked));
  }

  private within<T>(work: Promise<T>): Promise<T> {
    return withinDeadline(this.deadlineMs, work);
  }
}

function linkToServer(settings: RedisSettings, prefix: string, deadlineMs: number): Link {
  const commands = connectRedis(settings, connectionOptions(deadlineMs));
  return {
    commands,
    disconnect: () => commands.disconnect(),
    proofKeys: () => [proofKey(prefix, 'events')],
    channels: (options) => new RedisChannels(connectRedis(settings, connectionOptions(deadlineMs)), options),
  };
}

function linkToCluster(settings: RedisSettings, prefix: string, deadlineMs: number): Link {
  const cluster = connectCluster(settings, connectionOptions(deadlineMs));
  const proofs = new KeyOfEachPrimary(cluster, proofKey(prefix, 'events'));
  return {
    commands: cluster,
    disconnect: () => disconnectCluster(cluster),
    proofKeys: () => proofs.get().values(),
    channels: (options) =>
      new ClusterChannels(
        cluster,
        { ...nodeOptions(settings), ...connectionOptions(deadlineMs) },
        proofs,
        options,
      ),
  };
}

const connectionOptions = (deadlineMs: number): RedisOptions => ({
  // What many sessions append in one turn of the event loop is one write to the socket, which costs more than the commands.
  enableAutoPipelining: true,
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
  // RedisChannels does it.
  autoResubscribe: false,
});

/** @param flat names and values in turn, as Redis gives the fields of an entry */
function fieldsOf(flat: readonly string[]): Partial<Record<string, string>> {
  return Object.fromEntries(flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]]] : [])));
}

const PROCESS_GENERATION = randomBytes(8).toString('hex');
let generations = 0;

/** Used where the stream has to begin anew. 64 random bits of the process, and a number, distinguish it from the one that was lost. */
const newGeneration = (): string => `${PROCESS_GENERATION}${(generations++).toString(36)}`;

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
