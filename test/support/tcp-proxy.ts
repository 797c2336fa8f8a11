import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** Of the texts that are looked for. */
const LONGEST_TEXT = 100;

/** One connection through the proxy. */
interface Link {
  client: Socket;
  server: Socket;
  isAbandoned: boolean;
}

/**
 * A network between the product and a server, with the faults that networks have. Whatever is not told otherwise
 * passes.
 */
export interface TcpProxy {
  /** The server's URL, by way of the proxy. */
  url: string;
  /** Connections that are open through it. */
  readonly connections: number;
  /** What is sent in this direction vanishes, or waits until {@link recover}; the connections stay. */
  swallow(direction: 'to the server' | 'to the client' | 'both'): void;
  /** Like {@link swallow}, but everything arrives late: at {@link recover}. */
  hold(): void;
  /** What was held arrives; what was swallowed has made its connections useless, and they are reset. */
  recover(): void;
  /** The connections of now are silent for ever, as when their server vanished; new ones pass. */
  abandon(): void;
  /** Every connection breaks. @returns how many */
  cut(): number;
  /**
   * When the client next sends this text, the server gets it, but its answer is lost and the connection breaks.
   *
   * @returns resolves when that has happened
   */
  cutAfter(text: string): Promise<void>;
  /** When the client next sends this text, everything in both directions is held, that text included. */
  holdAt(text: string): Promise<void>;
  /** From now on the server gets another text of the same length instead of this one. */
  replace(text: string, other: string): void;
  /** New connections are refused, or accepted again. */
  refuse(isRefusing: boolean): void;
  /** New connections lead to another server. */
  retarget(url: string): void;
  close(): Promise<void>;
}

export async function startTcpProxy(target: string, defaultPort = 5432): Promise<TcpProxy> {
  const links = new Set<Link>();
  const swallowed = { toServer: false, toClient: false };
  let held: { to: Socket; data: Buffer }[] | null = null;
  let isRefusing = false;
  let replacement: { text: string; other: string } | null = null;
  let trigger: { text: string; effect: 'cut' | 'hold'; fire: () => void } | null = null;
  let destination = new URL(target);

  const proxy = createServer((client) => {
    if (isRefusing) {
      client.on('error', () => undefined);
      client.resetAndDestroy();
      return;
    }
    const server = connect(Number(destination.port || defaultPort), destination.hostname);
    const link: Link = { client, server, isAbandoned: false };
    let isDeaf = false; // the server's answers do not arrive any more
    links.add(link);
    client.setNoDelay(true);
    server.setNoDelay(true);
    for (const socket of [client, server]) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        links.delete(link);
        client.destroy();
        server.destroy();
      });
    }
    let before = ''; // the end of what was sent last: a text may come in two pieces
    client.on('data', (data: Buffer) => {
      const sent = before + data.toString('latin1');
      before = sent.slice(-LONGEST_TEXT);
      const at = replacement ? data.indexOf(replacement.text) : -1;
      if (replacement && at >= 0) data.write(replacement.other, at);
      if (trigger && sent.includes(trigger.text)) {
        const { effect, fire } = trigger;
        trigger = null;
        if (effect === 'hold') held ??= [];
        else {
          isDeaf = true;
          // Not before the server has answered: then it has done what it was told.
          server.once('data', () => {
            breakLink(link);
            fire();
          });
        }
        if (effect === 'hold') fire();
      }
      if (swallowed.toServer || link.isAbandoned) return;
      if (held) held.push({ to: server, data });
      else server.write(data);
    });
    server.on('data', (data: Buffer) => {
      if (isDeaf || swallowed.toClient || link.isAbandoned) return;
      if (held) held.push({ to: client, data });
      else client.write(data);
    });
  });

  function breakLink({ client, server }: Link): void {
    client.resetAndDestroy();
    server.destroy();
  }

  function cut(): number {
    const count = links.size;
    for (const link of links) breakLink(link);
    return count;
  }

  const when = (text: string, effect: 'cut' | 'hold'): Promise<void> => {
    if (text.length > LONGEST_TEXT) throw new Error('the text is too long to be found');
    const { promise, resolve } = Promise.withResolvers<void>();
    trigger = { text, effect, fire: resolve };
    return promise;
  };

  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String((proxy.address() as AddressInfo).port);

  return {
    url: url.href,
    get connections() {
      return links.size;
    },
    swallow(direction) {
      swallowed.toServer = direction !== 'to the client';
      swallowed.toClient = direction !== 'to the server';
    },
    hold() {
      held ??= [];
    },
    recover() {
      if (swallowed.toServer || swallowed.toClient) cut();
      swallowed.toServer = false;
      swallowed.toClient = false;
      const late = held ?? [];
      held = null;
      for (const { to, data } of late) if (to.writable) to.write(data);
    },
    abandon() {
      for (const link of links) link.isAbandoned = true;
    },
    cut,
    cutAfter: (text) => when(text, 'cut'),
    holdAt: (text) => when(text, 'hold'),
    replace(text, other) {
      if (Buffer.byteLength(text) !== Buffer.byteLength(other)) throw new Error('the lengths differ');
      replacement = { text, other };
    },
    refuse(refusing) {
      isRefusing = refusing;
    },
    retarget(next) {
      destination = new URL(next);
    },
    async close() {
      cut();
      proxy.close();
      await once(proxy, 'close');
    },
  };
}
