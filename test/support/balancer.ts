import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/**
 * The least that a load balancer does: each new connection goes to the first target that accepts it. It knows
 * nothing of HTTP, so what a client sees of an api that goes away is what that api does.
 */
export interface Balancer {
  url: string;
  /** Base URLs, in the order in which they are tried; may be changed at any time. */
  targets: string[];
  close(): Promise<void>;
}

export async function startBalancer(targets: readonly string[]): Promise<Balancer> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    track(client);
    void forward(client);
  });

  function track(socket: Socket): void {
    open.add(socket);
    socket.on('error', () => undefined); // its close tells
    socket.once('close', () => open.delete(socket));
  }

  async function forward(client: Socket): Promise<void> {
    for (const target of balancer.targets) {
      const { hostname, port } = new URL(target);
      const upstream = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
      try {
        await once(upstream, 'connect');
      } catch {
        continue; // nobody there: the next one
      }
      track(upstream);
      client.once('close', () => upstream.destroy());
      upstream.once('close', () => client.destroy());
      client.pipe(upstream);
      upstream.pipe(client);
      client.resume();
      return;
    }
    client.destroy();
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const balancer: Balancer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    targets: [...targets],
    async close() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return balancer;
}
