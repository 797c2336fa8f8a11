import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';

/** Where a certificate of the tests is, by its name. */
export const certificate = (name: string): string => join(import.meta.dirname, 'certificates', name);

const SSL_REQUEST = 80_877_103;
/** Of a TLS handshake, which a client begins with by itself where it does not ask. */
const TLS_HANDSHAKE = 0x16;

export interface DoorOptions {
  /** Whether it has TLS; `direct`: also without being asked. Default: yes. */
  tls?: boolean | 'direct';
  /** Whether it lets in who speaks in plain text. Default: yes. */
  plain?: boolean;
  /** Refuses whoever comes by TLS, as a `hostnossl` of pg_hba.conf does. Default: no. */
  refusesTls?: boolean;
  /** Asks clients for a certificate of the CA. Default: no. */
  asksForCertificate?: boolean;
  /** Listens on this path instead of a port. */
  path?: string;
}

/** A door in front of a PostgreSQL, which itself speaks in plain text. It counts how clients come in. */
export interface PostgresDoor {
  port: number;
  /** The database's URL through this door, under another host and with these parameters. */
  url: (host?: string, query?: string) => string;
  readonly let: { tls: number; plain: number };
  close: () => Promise<void>;
}

/** An ErrorResponse, as a server refuses a client. */
export function refusal(code: string, message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0C${code}\0M${message}\0\0`);
  const header = Buffer.alloc(5);
  header.write('E');
  header.writeUInt32BE(4 + fields.length, 1);
  return Buffer.concat([header, fields]);
}

export async function openDoor(
  target: string,
  { tls = true, plain = true, refusesTls = false, asksForCertificate = false, path }: DoorOptions = {},
): Promise<PostgresDoor> {
  const server = new URL(target);
  const entered = { tls: 0, plain: 0 };
  const open = new Set<Socket>();
  const pass = (client: Socket, first?: Buffer): void => {
    const behind = connect(Number(server.port), server.hostname);
    open.add(behind);
    for (const [one, other] of [
      [client, behind],
      [behind, client],
    ] as const) {
      one.on('error', () => undefined);
      one.once('close', () => other.destroy());
      one.pipe(other);
    }
    if (first) behind.write(first);
  };
  const secure = (client: Socket): void => {
    const secured = new TLSSocket(client, {
      isServer: true,
      key: readFileSync(certificate('server.key')),
      cert: readFileSync(certificate('server.pem')),
      ca: readFileSync(certificate('ca.pem')),
      requestCert: asksForCertificate,
      rejectUnauthorized: asksForCertificate,
      ALPNProtocols: ['postgresql'],
    });
    secured.on('error', () => client.destroy());
    secured.once('data', (first) => {
      secured.pause();
      entered.tls++;
      if (refusesTls) secured.end(refusal('28000', 'no pg_hba.conf entry, SSL encryption'));
      else pass(secured, first);
    });
  };
  const door = createServer((client) => {
    open.add(client);
    client.on('error', () => undefined);
    client.once('data', (first) => {
      client.pause();
      if (first[0] === TLS_HANDSHAKE) {
        client.unshift(first);
        if (tls === 'direct') secure(client);
        else client.destroy();
      } else if (first.readUInt32BE(4) === SSL_REQUEST) {
        client.write(tls ? 'S' : 'N');
        if (tls) return secure(client);
        client.once('data', (startup) => {
          entered.plain++;
          client.pause();
          pass(client, startup);
        });
        client.resume();
      } else if (plain) {
        entered.plain++;
        pass(client, first);
      } else {
        client.end(refusal('28000', 'no pg_hba.conf entry, no encryption'));
      }
    });
  });
  if (path === undefined) door.listen(0, '127.0.0.1');
  else door.listen(path);
  await once(door, 'listening');
  const port = path === undefined ? (door.address() as AddressInfo).port : 0;
  return {
    port,
    url: (host = 'localhost', query = '') => {
      const url = new URL(target);
      return `postgres://${url.username}:${url.password}@${host}:${port}${url.pathname}?${query}`;
    },
    let: entered,
    close: async () => {
      for (const socket of open) socket.destroy();
      door.close();
      await once(door, 'close');
    },
  };
}
