/**
 * Makes the first connection of a client, once, and waits for it. Later ones are made in the background, and calls fail
 * meanwhile.
 *
 * @param client one that connects when told to (`lazyConnect`)
 */
export function firstConnection(client: { connect(): Promise<void> }): () => Promise<void> {
  let connecting: Promise<void> | null = null;
  return () => {
    connecting ??= client.connect().catch((error: unknown) => {
      connecting = Promise.resolve();
      throw error;
    });
    return connecting;
  };
}
