import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { connectionOptions } from '../../src/database/postgres-connection.js';
import { converse, dialogue, newQuestion, spoken } from '../support/conversations.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import {
  certificate,
  type DoorOptions,
  openDoor,
  type PostgresDoor,
  refusal,
} from '../support/postgres-door.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { Stack } from '../support/stack.js';

const { migrate } = await importProduct<typeof import('../../src/migrate.js')>('migrate.js');

const CA = `sslrootcert=${certificate('ca.pem')}`;
const OTHER_CA = `sslrootcert=${certificate('other-ca.pem')}`;

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const toClose: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0)) await close();
});
async function door(options?: DoorOptions): Promise<PostgresDoor> {
  const opened = await openDoor(database.url, options);
  toClose.push(opened.close);
  return opened;
}

/** Connects as the product does, and asks for something. */
async function ask(
  url: string,
  statement = 'select 1 as answer',
  connectTimeoutMs = 10_000,
): Promise<unknown> {
  const client = new pg.Client(connectionOptions(url, { applicationName: 'assistly', connectTimeoutMs }));
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<Record<string, unknown>>(statement);
    return Object.values(rows[0] ?? {})[0];
  } finally {
    await client.end();
  }
}

describe('a connection to PostgreSQL', () => {
  const BOTH: DoorOptions = {};
  const TLS_ONLY: DoorOptions = { plain: false };
  const NO_TLS: DoorOptions = { tls: false };
  const TLS_REFUSED: DoorOptions = { refusesTls: true };
  it.each<[string, string, DoorOptions, 'tls' | 'plain' | RegExp]>([
    ['', 'with both', BOTH, 'tls'],
    ['', 'with TLS alone', TLS_ONLY, 'tls'],
    ['', 'without TLS', NO_TLS, 'plain'],
    ['', 'that refuses who comes by TLS', TLS_REFUSED, 'plain'],
    ['sslmode=prefer', 'with both', BOTH, 'tls'],
    ['sslmode=disable', 'with both', BOTH, 'plain'],
    ['sslmode=disable', 'with TLS alone', TLS_ONLY, /no encryption/],
    ['sslmode=allow', 'with both', BOTH, 'plain'],
    ['sslmode=allow', 'with TLS alone', TLS_ONLY, 'tls'],
    ['sslmode=allow', 'without TLS', NO_TLS, 'plain'],
    ['sslmode=require', 'with both', BOTH, 'tls'],
    ['sslmode=require', 'without TLS', NO_TLS, /does not support TLS/],
    ['sslmode=require', 'that refuses who comes by TLS', TLS_REFUSED, /SSL encryption/],
    [`sslmode=require&${CA}`, 'with both', BOTH, 'tls'],
    [`sslmode=require&${OTHER_CA}`, 'with both', BOTH, /certificate/],
    [`sslmode=verify-ca&${CA}`, 'with both', BOTH, 'tls'],
    [`sslmode=verify-ca&${OTHER_CA}`, 'with both', BOTH, /certificate/],
    [`sslmode=verify-full&${CA}`, 'with both', BOTH, 'tls'],
    [`sslmode=verify-full&${CA}`, 'with TLS alone', TLS_ONLY, 'tls'],
    [`sslmode=verify-full&${CA}`, 'without TLS', NO_TLS, /does not support TLS/],
    [`sslmode=verify-full&${OTHER_CA}`, 'with both', BOTH, /certificate/],
    ['sslmode=verify-full', 'with both', BOTH, /certificate/],
    ['sslrootcert=system', 'with both', BOTH, /certificate/],
    ['sslmode=require&sslnegotiation=direct', 'with TLS from the first byte on', { tls: 'direct' }, 'tls'],
    ['sslmode=require&sslnegotiation=direct', 'with both', BOTH, /./],
    ['sslmode=require&ssl_min_protocol_version=TLSv1.3', 'with both', BOTH, 'tls'],
    ['channel_binding=disable', 'with both', BOTH, 'tls'],
    ['sslmode=require&channel_binding=require', 'that knows none', BOTH, /offers no channel binding/],
  ])('with %j, at a server %s', async (query, _, options, expected) => {
    const at = await door(options);
    const answer = ask(at.url('localhost', query));
    if (expected instanceof RegExp) {
      await expect(answer).rejects.toThrow(expected);
      // Who asks for TLS says nothing in plain text, whatever the server answers.
      if (/require|verify|system/.test(query)) expect(at.let.plain).toBe(0);
    } else {
      expect(await answer).toBe(1);
      expect(at.let[expected]).toBe(1);
      if (expected === 'tls') expect(at.let.plain).toBe(0);
    }
  });

  it.each([
    [`sslmode=verify-ca&${CA}`, true],
    [`sslmode=require&${CA}`, true],
    [`sslmode=verify-full&${CA}`, false],
  ])('with %s, at a server whose certificate has another name', async (query, isTaken) => {
    const answer = ask((await door()).url('127.0.0.1', query));
    await (isTaken ? expect(answer).resolves.toBe(1) : expect(answer).rejects.toThrow(/altnames/));
  });

  it('shows its own certificate where the server asks for one', async () => {
    const at = await door({ asksForCertificate: true });
    const own = `sslcert=${certificate('client.pem')}&sslkey=${certificate('client.key')}`;
    expect(await ask(at.url('localhost', `sslmode=verify-full&${CA}&${own}`))).toBe(1);
    await expect(ask(at.url('localhost', `sslmode=verify-full&${CA}`))).rejects.toThrow();
  });

  it('is told what came in plain text behind the answer to its request for TLS', async () => {
    const injecting = createServer((client) => client.once('data', () => client.end('S and more')));
    injecting.listen(0, '127.0.0.1');
    await once(injecting, 'listening');
    toClose.push(async () => injecting.close());
    const { port } = injecting.address() as AddressInfo;
    await expect(ask(`postgres://127.0.0.1:${port}/x?sslmode=require`)).rejects.toThrow(
      /more than an answer/,
    );
  });

  it('goes by a Unix domain socket where the host is a directory', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'assistly-socket-'));
    toClose.push(async () => rmSync(directory, { recursive: true, force: true }));
    const at = await door({ path: join(directory, '.s.PGSQL.5432') });
    const url = new URL(database.url);
    url.host = '';
    const { username, password, pathname } = new URL(database.url);
    const login = `${username}:${password}`;
    expect(await ask(`postgres://${login}@${pathname}?host=${directory}&sslmode=require`)).toBe(1);
    expect(await ask(`postgres://${login}@${encodeURIComponent(directory)}${pathname}`)).toBe(1);
    expect(at.let).toEqual({ tls: 0, plain: 2 }); // within a machine there is no TLS
  });

  it('tells the server what the URL says', async () => {
    const named = (query: string): string => `${database.url}?${query}`;
    expect(await ask(named('application_name=my%20app'), 'show application_name')).toBe('my app');
    expect(await ask(named('fallback_application_name=x'), 'show application_name')).toBe('x');
    expect(await ask(database.url, 'show application_name')).toBe('assistly');
    expect(await ask(named('options=-c%20geqo%3Doff'), 'show geqo')).toBe('off');
    expect(await ask(named('schema=My%20%22app%5C'), 'show search_path')).toBe('"My ""app\\"');
    expect(await ask(named('options=-c%20geqo%3Doff&schema=app'), 'show search_path')).toBe('"app"');
  });
});

describe('several hosts', () => {
  /** What is right behind the credentials of the database's URL is replaced. */
  const at = (hosts: string, query = ''): string => `${database.url.replace(/@[^/]*/, `@${hosts}`)}?${query}`;
  const good = (): string => new URL(database.url).host;

  /** A server that lets everybody in, and says this of itself; or one that answers with this alone. */
  async function actor(said: Record<string, string> | Buffer): Promise<string> {
    const message = (type: string, body: Buffer): Buffer => {
      const header = Buffer.alloc(5);
      header.write(type);
      header.writeUInt32BE(4 + body.length, 1);
      return Buffer.concat([header, body]);
    };
    const greeting = Buffer.isBuffer(said)
      ? said
      : Buffer.concat([
          message('R', Buffer.alloc(4)),
          ...Object.entries(said).map((pair) => message('S', Buffer.from(`${pair.join('\0')}\0`))),
          message('K', Buffer.alloc(8)),
          message('Z', Buffer.from('I')),
        ]);
    const server = createServer((client) => {
      client.on('error', () => undefined);
      client.on('data', (data) => {
        if (data.length === 8) client.write('N');
        else if (data[0] === 0) client.write(greeting);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    toClose.push(async () => server.close());
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  it('are tried in their order', async () => {
    const closed = await startTcpProxy(database.url);
    closed.refuse(true);
    toClose.push(() => closed.close());
    const refusing = new URL(closed.url).host;
    expect(await ask(at(`127.0.0.1:1,${refusing},${good()}`))).toBe(1);
    expect(await ask(at(`no-such-host.invalid,${good()}`))).toBe(1);
    await expect(ask(at(`127.0.0.1:1,${refusing}`))).rejects.toThrow();
  });

  it('are left where they are silent, or cannot let anybody in for the moment', async () => {
    const silent = await startTcpProxy(database.url);
    silent.swallow('both');
    toClose.push(() => silent.close());
    const starting = await actor(refusal('57P03', 'the database system is starting up'));
    expect(await ask(at(`${new URL(silent.url).host},${good()}`), undefined, 1_500)).toBe(1);
    expect(await ask(at(`${starting},${good()}`, 'sslmode=disable'))).toBe(1);
    expect(await ask(at(`${starting},${good()}`))).toBe(1);
  });

  it('are not tried in turn with a password that one of them refuses', async () => {
    const refusing = await actor(refusal('28P01', 'password authentication failed'));
    await expect(ask(at(`${refusing},${good()}`))).rejects.toThrow(/password authentication failed/);
  });

  it.each([
    ['read-write', { in_hot_standby: 'on', default_transaction_read_only: 'off' }],
    ['read-write', { in_hot_standby: 'off', default_transaction_read_only: 'on' }],
    ['primary', { in_hot_standby: 'on' }],
  ])('are asked for one that is %s, which one with %j is not', async (attributes, said) => {
    const standby = await actor(said);
    const query = `target_session_attrs=${attributes}`;
    expect(await ask(at(`${standby},${good()}`, query))).toBe(1);
    expect(await ask(at(`${good()},${standby}`, query))).toBe(1);
    await expect(ask(at(standby, query))).rejects.toThrow(/can only be read/);
    await expect(ask(at(`${standby},${standby}`, query))).rejects.toThrow(/can only be read/);
  });

  it('may be read-only by default where a primary is asked for', async () => {
    const query = 'target_session_attrs=primary&options=-c%20default_transaction_read_only%3Don';
    expect(await ask(at(good(), query))).toBe(1);
    await expect(ask(at(good(), query.replace('primary', 'read-write')))).rejects.toThrow(/can only be read/);
  });
});

describe('the whole product', () => {
  it.each([
    [`sslmode=verify-full&${CA}`, 'tls', {}],
    ['', 'plain', { tls: false }],
  ] as [string, 'tls' | 'plain', DoorOptions][])(
    'with %j goes by %s through a door with %j: migrations, api, worker, queue and events',
    async (query, expected, options) => {
      const stack = await Stack.start({ apis: 0, workers: 0, backend: 'postgres' });
      const at = await openDoor(stack.database.url, options);
      const DATABASE_URL = at.url('localhost', query);
      await migrate(DATABASE_URL);
      const migratedBy = { ...at.let };
      await stack.addApi({ DATABASE_URL });
      await stack.addWorker({ DATABASE_URL });
      try {
        const { session, guest } = await converse(stack);
        const stream = await guest.follow(session.id).opened();
        const question = newQuestion();
        const { reply } = await guest.postMessage(session.id, question);
        expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed' });
        await stream.close();
        expect(spoken(await guest.messages(session.id))).toHaveLength(dialogue(question).length);
        expect(migratedBy[expected]).toBeGreaterThan(1);
        // The pools of two processes and of two queues, and three that listen.
        expect(at.let[expected] - migratedBy[expected]).toBeGreaterThan(6);
        expect(at.let[expected === 'tls' ? 'plain' : 'tls']).toBe(0);
      } finally {
        await stack.stop();
        await at.close();
      }
    },
  );
});
