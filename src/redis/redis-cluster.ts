import { Cluster, Command, type RedisOptions } from 'ioredis';
import { MissingPartError } from '../runtime/readiness.js';
import { type RedisSettings, sharedOptions, urlOf, wantsTls } from './redis-connection.js';

/** Slots of a Redis Cluster, by its specification. */
const SLOTS = 16_384;

/** How often a process asks the cluster who has which slot, in milliseconds; where it is told, it asks at once. */
const SLOTS_REFRESH_INTERVAL_MS = 2_000;

/** Deadline of that question, in milliseconds. */
const SLOTS_REFRESH_TIMEOUT_MS = 1_000;

/** How many keys are tried to find one of each primary, for each: it is done every few seconds. */
const TRIES_OF_A_PRIMARY = 50;

/** How long a command waits before it is sent again while a slot or its primary changes, in milliseconds, and how often. */
const RETRY_DELAY_MS = 100;
const MAX_REDIRECTIONS = 16;

export const isOnCluster = ({
  REDIS_CLUSTER_NODES: nodes,
}: Pick<RedisSettings, 'REDIS_CLUSTER_NODES'>): boolean => nodes.length > 0;

/** How each node of a cluster is reached: with user, password and TLS of the URL, whose host is not used. */
export function nodeOptions(settings: RedisSettings): RedisOptions {
  const url = urlOf(settings);
  const { username, password } = new URL(url);
  return {
    ...sharedOptions(),
    ...(username !== '' && { username: decodeURIComponent(username) }),
    ...(password !== '' && { password: decodeURIComponent(password) }),
    ...(wantsTls(url) && { tls: {} }),
  };
}

/**
 * A Redis Cluster, which asks its nodes who has which slot, and follows where a slot moves or a replica takes over.
 * A command whose connection is lost is sent again: whatever is sent here may take effect twice.
 *
 * @param options of the connection to each node, over those that all share; `retryStrategy` and `enableOfflineQueue` are
 *   of the cluster as a whole
 */
export function connectCluster(settings: RedisSettings, options: RedisOptions): Cluster {
  const { retryStrategy, enableOfflineQueue, ...ofNode } = { ...nodeOptions(settings), ...options };
  return new Cluster(settings.REDIS_CLUSTER_NODES, {
    lazyConnect: true,
    enableOfflineQueue,
    clusterRetryStrategy: retryStrategy,
    slotsRefreshInterval: SLOTS_REFRESH_INTERVAL_MS,
    slotsRefreshTimeout: SLOTS_REFRESH_TIMEOUT_MS,
    maxRedirections: MAX_REDIRECTIONS,
    retryDelayOnFailover: RETRY_DELAY_MS,
    retryDelayOnClusterDown: RETRY_DELAY_MS,
    retryDelayOnTryAgain: RETRY_DELAY_MS,
    redisOptions: ofNode,
    // Names are looked up by each connection, since a certificate is for the name.
    ...(wantsTls(urlOf(settings)) && { dnsLookup: (address, callback) => callback(null, address) }),
  });
}

/** Ends all connections for good, also one that is being made, which ioredis would bring to its end and keep. */
export function disconnectCluster(cluster: Cluster): void {
  cluster.once('ready', () => cluster.disconnect());
  cluster.disconnect();
}

/** Address of a node, `host:port`. */
export type Node = string;

/** Whose a key or channel is, by what the cluster said last; null: nobody's. */
export const ownerOf = ({ slots }: Cluster, key: string): Node | null =>
  slots[new Command('get', [key]).getSlot()]?.[0] ?? null;

/** The primaries that have slots, and how many slots have one. */
export function ownersOf({ slots }: Cluster): { primaries: Set<Node>; served: number } {
  const primaries = new Set<Node>();
  let served = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    const primary = slots[slot]?.[0];
    if (primary === undefined) continue;
    primaries.add(primary);
    served++;
  }
  return { primaries, served };
}

/** Asks the cluster anew who has which slot; what it says is seen by the functions here. */
export const refreshSlots = (cluster: Cluster): Promise<void> =>
  new Promise((resolve, reject) => {
    cluster.refreshSlotsCache((error) => (error ? reject(error) : resolve()));
  });

/** Keys, or channels, one of each primary: to prove that each of them does what it has to. */
export class KeyOfEachPrimary {
  private readonly known = new Map<Node, string>();

  /** @param name begins each key */
  constructor(
    private readonly cluster: Cluster,
    private readonly name: string,
  ) {}

  /** @throws MissingPartError where a slot is nobody's: what belongs there cannot be stored */
  get(): ReadonlyMap<Node, string> {
    const { primaries, served } = ownersOf(this.cluster);
    if (served < SLOTS)
      throw new MissingPartError(`the Redis Cluster serves ${served} of its ${SLOTS} slots`);
    for (const [node, key] of this.known) {
      if (ownerOf(this.cluster, key) !== node) this.known.delete(node);
    }
    // Each number falls into some slot, evenly; a primary that so many miss has hardly any.
    const tries = TRIES_OF_A_PRIMARY * primaries.size;
    for (let number = 0; this.known.size < primaries.size && number < tries; number++) {
      const key = `${this.name}:{${number}}`;
      const owner = ownerOf(this.cluster, key);
      if (owner !== null && !this.known.has(owner)) this.known.set(owner, key);
    }
    return this.known;
  }
}
