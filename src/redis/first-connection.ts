import type { Cluster, Redis } from 'ioredis';

/**
 * Makes the first connection of a client, once, and waits for it. Later ones are made in the background, and calls fail
 * meanwhile.
 *
 * @param client one that connects when told to (`lazyConnect`)
 */
export function firstConnection(client: Redis | Cluster): () => Promise<void> {
  let connecting: Promise<void> | null = null;
  return () => {
    connecting ??= connect(client).catch((error: unknown) => {
      connecting = Promise.resolve();
      throw error;
    });
    return connecting;
  };
}

/** A cluster that is told to end while it connects settles nothing by itself. */
const connect = (client: Redis | Cluster): Promise<void> =>
  new Promise((resolve, reject) => {
    client.once('end', () => reject(new Error('the connection to Redis was ended while it was made')));
    client.connect().then(resolve, reject);
  });
