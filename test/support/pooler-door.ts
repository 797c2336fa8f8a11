import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { once } from 'node:events';

/**
 * A door to PostgreSQL that gives its clients numbers of its own, as a pooler does and has to: all that a client can see
 * of one. Behind it every connection keeps its server, so what a statement leaves behind shows in the next.
 */
export async function openPoolerDoor(target: string): Promise<{ url: string; close: () => Promise<void> }> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const door = createServer((client) => {
    const server = connect(Number(port || 5432), hostname);
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => undefined).once('close', () => sockets.delete(socket));
    }
    client.on('data', (data: Buffer) => {
      if (data.equals(SSL_REQUEST)) client.write('N');
      else server.write(data);
    });
    let begun: Buffer | null = Buffer.alloc(0);
    server.on('data', (data: Buffer) => {
      if (begun) begun = passMessages(Buffer.concat([begun, data]), client);
      else client.write(data);
    });
    server.once('end', () => client.end());
    server.once('close', () => client.destroy());
  });
  door.listen(0, '127.0.0.1');
  await once(door, 'listening');
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String((door.address() as AddressInfo).port);
  return {
    url: url.href,
    close: async () => {
      door.close();
      for (const socket of sockets) socket.destroy();
      await once(door, 'close');
    },
  };
}

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const KEY_DATA = 'K'.charCodeAt(0);

/** Passes messages on until that with the server's number has gone. @returns what is left; null: it has gone */
function passMessages(data: Buffer, client: Socket): Buffer | null {
  while (data.length >= 5 && data.length > data.readInt32BE(1)) {
    const length = 1 + data.readInt32BE(1);
    const message = data.subarray(0, length);
    data = data.subarray(length);
    if (message[0] === KEY_DATA) {
      message.writeInt32BE(message.readInt32BE(5) + 1_000_000, 5);
      client.write(Buffer.concat([message, data]));
      return null;
    }
    client.write(message);
  }
  return data;
}
