import { type Cluster, Redis, type RedisOptions } from 'ioredis';
import { type KeyOfEachPrimary, type Node, ownerOf, ownersOf, refreshSlots } from '../redis/redis-cluster.js';
import type { StreamListener } from './event-stream.js';
import { type ChannelOptions, type Channels, isMoved, RedisChannels, SHARDED } from './redis-channels.js';

/** How often it looks whether a channel's slot has another primary, in milliseconds. */
const CHECK_INTERVAL_MS = 1_000;

/** How often a subscription follows a slot that moves, before it fails. */
const MAX_MOVES = 3;

interface Subscription {
  name: string;
  listener: StreamListener;
  /** Where it listens; null: nowhere yet. */
  node: Node | null;
  end: () => void;
}

/**
 * The channels of a Redis Cluster: each is listened to at the primary that has its slot, on one connection to each, and
 * follows the slot where that moves or another server takes over. (The sharded subscribers of ioredis keep to themselves
 * that they could not subscribe again.)
 */
export class ClusterChannels implements Channels {
  private readonly nodes = new Map<Node, RedisChannels>();
  private readonly subscriptions = new Set<Subscription>();
  private readonly checking: NodeJS.Timeout;
  private isChecking = false;
  private isClosed = false;

  /**
   * @param cluster says who has which slot
   * @param nodeOptions of the connection to each primary
   * @param proofChannels one of each primary
   */
  constructor(
    private readonly cluster: Cluster,
    private readonly nodeOptions: RedisOptions,
    private readonly proofChannels: KeyOfEachPrimary,
    private readonly options: ChannelOptions,
  ) {
    this.checking = setInterval(() => void this.check(), CHECK_INTERVAL_MS).unref();
  }

  async subscribe(name: string, listener: StreamListener): Promise<() => void> {
    const subscription: Subscription = { name, listener, node: null, end: () => undefined };
    this.subscriptions.add(subscription);
    try {
      await this.place(subscription);
    } catch (error) {
      this.subscriptions.delete(subscription);
      throw error;
    }
    return () => {
      if (this.subscriptions.delete(subscription)) subscription.end();
    };
  }

  async ping(): Promise<void> {
    await Promise.all([...this.proofChannels.get()].map(([node, channel]) => this.at(node).ping(channel)));
  }

  reconnect(): void {
    for (const channels of this.nodes.values()) channels.reconnect();
  }

  close(): void {
    this.isClosed = true;
    clearInterval(this.checking);
    this.subscriptions.clear();
    for (const channels of this.nodes.values()) channels.close();
  }

  private at(node: Node): RedisChannels {
    if (this.isClosed) throw new Error('the event stream is closed: it listens to nothing any more');
    let channels = this.nodes.get(node);
    if (!channels) {
      const [, host, port] = /^(.*):(\d+)$/.exec(node) ?? [];
      const redis = new Redis({ ...this.nodeOptions, host, port: Number(port) });
      channels = new RedisChannels(redis, this.options, SHARDED);
      this.nodes.set(node, channels);
    }
    return channels;
  }

  /** Listens where the channel's slot is, and no longer where it was. */
  private async place(subscription: Subscription): Promise<void> {
    const { name, listener } = subscription;
    for (let moves = 0; ; moves++) {
      const node = ownerOf(this.cluster, name);
      if (node === null) throw new Error('the Redis Cluster does not say who has the slot of a channel');
      try {
        const end = await this.at(node).subscribe(name, listener);
        subscription.end();
        Object.assign(subscription, { node, end });
        // It was ended meanwhile.
        if (!this.subscriptions.has(subscription)) end();
        return;
      } catch (error) {
        if (!isMoved(error) || moves === MAX_MOVES) throw error;
        await refreshSlots(this.cluster);
      }
    }
  }

  private async check(): Promise<void> {
    if (this.isChecking || this.cluster.status !== 'ready') return;
    this.isChecking = true;
    await this.followSlots();
    this.retireNodes();
    this.isChecking = false;
  }

  /** Listens elsewhere to the channels whose slot has another primary than it had. Throws nothing. */
  private async followSlots(): Promise<void> {
    const outcomes = await Promise.allSettled(
      [...this.subscriptions]
        .filter(({ name, node }) => node !== null && ownerOf(this.cluster, name) !== node)
        .map(async (subscription) => {
          await this.place(subscription);
          subscription.listener(null);
        }),
    );
    const failure = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failure) {
      this.options.onError(
        failure.reason as Error,
        'event_stream.listen_failed',
        'the event stream could not subscribe at the node that a slot has moved to: it tries again in a second',
      );
    }
  }

  /** Closes the connections to those that are no primaries any more, and asks the others again for what they lost. */
  private retireNodes(): void {
    const { primaries } = ownersOf(this.cluster);
    for (const [node, channels] of this.nodes) {
      if (primaries.has(node) || !channels.isIdle) {
        void channels.resubscribe();
      } else {
        channels.close();
        this.nodes.delete(node);
      }
    }
  }
}
