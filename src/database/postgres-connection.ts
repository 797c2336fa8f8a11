import type { Duplex } from 'node:stream';
import pg from 'pg';
import {
  ChannelBinding,
  type DatabaseHost,
  type DatabaseTarget,
  parseDatabaseUrl,
  SessionAttributes,
} from '../config/database-url.js';
import { PostgresSocket } from './postgres-socket.js';

/** What a kind of connection has by itself, where the URL does not say otherwise. Times in milliseconds. */
export interface OwnConnectionOptions {
  /** As `pg_stat_activity` shows it. */
  applicationName: string;
  /** Longest until a host is connected. */
  connectTimeoutMs: number;
  /** Silence before the first probe of a peer that may have vanished; 0: the system's own time. */
  keepAliveIdleMs?: number;
}

/**
 * How every connection to PostgreSQL is made, whoever makes it: as the URL says, in all that it says. The ORM's pool,
 * the queue's pools, whoever listens, and the migrations all take these options.
 *
 * @throws DatabaseUrlError where the URL is none
 */
export function connectionOptions(url: string, own: OwnConnectionOptions): pg.ClientConfig {
  const target = parseDatabaseUrl(url);
  const hostTimeoutMs = target.connectTimeoutMs ?? own.connectTimeoutMs;
  const { host, port } = target.hosts[0]!;
  const login: pg.ClientConfig = {
    host,
    port,
    user: target.user,
    password: target.password,
    database: target.database,
    options: target.options,
    ssl: false, // the socket does it
    enableChannelBinding: target.channelBinding !== ChannelBinding.Disable,
    application_name: target.applicationName ?? own.applicationName,
    connectionTimeoutMillis: hostTimeoutMs * target.hosts.length,
    keepAlive: target.keepAlive,
    keepAliveInitialDelayMillis: target.keepAliveIdleMs ?? own.keepAliveIdleMs ?? 0,
  };
  const toHosts = (findHosts: () => Promise<DatabaseHost[]>) => (): Duplex =>
    new PostgresSocket(target, findHosts, hostTimeoutMs) as unknown as Duplex;
  const isFit = async (fit: DatabaseHost): Promise<void> => {
    const client = new pg.Client({ ...login, stream: toHosts(async () => [fit]) });
    client.on('error', () => undefined); // the promise tells it
    try {
      await client.connect();
    } finally {
      void client.end().catch(() => undefined);
    }
  };
  return { ...login, stream: toHosts(hostFinder(target, isFit)) };
}

/**
 * The hosts to connect to. Where the URL asks for a server that can be written and names several, that is the one that
 * was found to be: who it is, is seen only after the login, when it is too late to go on with the next.
 *
 * @param isFit rejects where the host is not such a server
 */
function hostFinder(
  { hosts, sessionAttributes }: DatabaseTarget,
  isFit: (host: DatabaseHost) => Promise<void>,
): () => Promise<DatabaseHost[]> {
  if (hosts.length === 1 || sessionAttributes === SessionAttributes.Any) return async () => hosts;
  let finding: Promise<DatabaseHost[]> | null = null;
  const find = async (): Promise<DatabaseHost[]> => {
    let failure: unknown;
    for (const host of hosts) {
      try {
        await isFit(host);
        return [host];
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  };
  // Each connection looks anew, several at once together: who could be written a moment ago may be no longer.
  return () =>
    (finding ??= find().finally(() => {
      finding = null;
    }));
}
