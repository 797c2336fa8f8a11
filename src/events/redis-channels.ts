import type { Redis } from 'ioredis';
import { firstConnection } from '../redis/first-connection.js';
import type { OnError, StreamListener, StreamNews } from './event-stream.js';

/**
 * The channels that the event stream listens to in Redis. Pub/sub delivers at most once, and what is published while a
 * connection is made again is gone; so every listener is called with null afterwards.
 */
export interface Channels {
  /**
   * Resolves when Redis has confirmed the subscription.
   *
   * @returns ends it; safe to call twice
   */
  subscribe(name: string, listener: StreamListener): Promise<() => void>;
  /** Resolves when what listens answers, and may listen. */
  ping(): Promise<void>;
  /** Connects again: what listens may do so at a server on which nobody publishes any more. */
  reconnect(): void;
  close(): void;
}

export interface ChannelOptions {
  /** Begins every channel. */
  prefix: string;
  /** Reads what is published. */
  parse: (payload: string) => StreamNews;
  onError: OnError;
}

/** The commands and events of one kind of pub/sub, and how many channels one command may name. */
interface PubSub {
  subscribe: 'subscribe' | 'ssubscribe';
  unsubscribe: 'unsubscribe' | 'sunsubscribe';
  batch: number;
}

/** What is published reaches subscribers at every node. */
const PLAIN: PubSub = { subscribe: 'subscribe', unsubscribe: 'unsubscribe', batch: 1_000 };

/** What is published stays with the node that has the channel's slot; a command names channels of one slot. */
export const SHARDED: PubSub = { subscribe: 'ssubscribe', unsubscribe: 'sunsubscribe', batch: 1 };

/** Whether a server says that another has the slot. */
export const isMoved = (error: unknown): boolean =>
  error instanceof Error && error.message.startsWith('MOVED ');

/** The listeners of a channel in this process. */
interface Channel {
  listeners: Set<{ notify: StreamListener }>;
  /** Settles when Redis has confirmed the subscription; null while it is to be asked for (again). */
  inForce: Promise<unknown> | null;
}

/** The channels of one server, on a connection of their own: commands must not wait behind a flood of news. */
export class RedisChannels implements Channels {
  private readonly channels = new Map<string, Channel>();
  private readonly connected: () => Promise<void>;
  /** How often the server said that a slot has left it, less the times that it said so in answer to a command of ours. */
  private lostSlots = 0;

  /** @param redis a connection that subscribes to nothing by itself: ioredis emits "ready" before it has, too early to reread */
  constructor(
    private readonly redis: Redis,
    private readonly options: ChannelOptions,
    private pubSub = PLAIN,
  ) {
    this.connected = firstConnection(redis);
    redis.on('error', (error) =>
      options.onError(
        error,
        'event_stream.listen_failed',
        'the event stream lost the connection that listens and connects again: subscribers then read the log',
      ),
    );
    for (const event of ['message', 'smessage'] as const) {
      redis.on(event, (name: string, payload: string) => this.notify(name, options.parse(payload)));
    }
    redis.on('close', () => {
      for (const channel of this.channels.values()) channel.inForce = null;
    });
    redis.on('ready', () => void this.resubscribe());
    // With its slot a node drops those who listen, and ioredis does not say to which channels.
    redis.on('moved', () => {
      this.lostSlots++;
      setImmediate(() => {
        if (this.lostSlots > 0) this.reconnect();
        this.lostSlots = 0;
      });
    });
  }

  get isIdle(): boolean {
    return this.channels.size === 0;
  }

  async subscribe(name: string, listener: StreamListener): Promise<() => void> {
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
      if (this.redis.status !== 'ready') return;
      this.redis[this.pubSub.unsubscribe](name).catch((error: Error) => {
        if (isMoved(error)) return;
        this.options.onError(
          error,
          'event_stream.unsubscribe_failed',
          'a channel of the event stream could not be unsubscribed: its messages are ignored',
        );
      });
    };
    try {
      await this.inForce(name, channel);
    } catch (error) {
      unsubscribe();
      // A worker goes on without, and says nothing of it for each of its replies.
      this.options.onError(
        error as Error,
        'event_stream.listen_failed',
        'the event stream could not subscribe to a session: a cancel is noticed by the next heartbeat',
      );
      throw error;
    }
    return unsubscribe;
  }

  /** @param channel where nothing is published: it proves that this connection may listen */
  async ping(channel = `${this.options.prefix}:proof`): Promise<void> {
    await this.connected();
    await this.ask(channel);
  }

  reconnect(): void {
    if (this.redis.status === 'ready') this.redis.disconnect(true);
  }

  close(): void {
    this.channels.clear();
    this.redis.disconnect();
  }

  private async inForce(name: string, channel: Channel): Promise<void> {
    await this.connected();
    channel.inForce ??= this.ask(name);
    try {
      await channel.inForce;
    } catch (error) {
      channel.inForce = null;
      throw error;
    }
  }

  private async ask(...names: string[]): Promise<void> {
    try {
      await this.redis[this.pubSub.subscribe](...names);
    } catch (error) {
      if (isMoved(error)) this.lostSlots--;
      if (this.pubSub === PLAIN || !isUnknownCommand(error)) throw error;
      // Before Redis 7 a cluster tells every node.
      this.pubSub = PLAIN;
      await this.ask(...names);
    }
  }

  /** Asks for the channels that no server has confirmed: those of a connection that was lost, or of a slot that moved. */
  async resubscribe(): Promise<void> {
    if (this.redis.status !== 'ready') return;
    const names = [...this.channels].flatMap(([name, { inForce }]) => (inForce === null ? [name] : []));
    const outcomes = await Promise.allSettled(
      inBatches(names, this.pubSub.batch).map((batch) => this.resubscribeTo(batch)),
    );
    const failure = outcomes.find((outcome) => outcome.status === 'rejected' && !isMoved(outcome.reason));
    if (failure?.status !== 'rejected') return;
    this.options.onError(
      failure.reason as Error,
      'event_stream.listen_failed',
      'the event stream could not subscribe again after a reconnection: it connects once more',
    );
    // From the start, unless the connection is gone already, which leads there too.
    this.reconnect();
  }

  private async resubscribeTo(names: string[]): Promise<void> {
    const inForce = this.ask(...names);
    const channels = names.map((name) => this.channels.get(name)!);
    for (const channel of channels) channel.inForce = inForce;
    try {
      await inForce;
    } catch (error) {
      for (const channel of channels) if (channel.inForce === inForce) channel.inForce = null;
      throw error;
    }
    for (const name of names) this.notify(name, null);
  }

  private notify(name: string, news: StreamNews): void {
    for (const { notify } of this.channels.get(name)?.listeners ?? []) {
      try {
        notify(news);
      } catch (error) {
        this.options.onError(
          error as Error,
          'event_stream.listener_failed',
          'a listener of the event stream threw an error: it missed an event until it reads the log',
        );
      }
    }
  }
}

const inBatches = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );

const isUnknownCommand = (error: unknown): boolean =>
  error instanceof Error && /unknown command/i.test(error.message);
