import { sql } from 'kysely';
import { MissingPartError } from '../runtime/readiness.js';
import { type Database, runOn } from './database.js';

interface Server {
  encoding: string;
  is_standby: boolean;
  replication_role: string;
}

const LOOK = `select current_setting('server_encoding') as encoding, pg_is_in_recovery() as is_standby,
  current_setting('session_replication_role') as replication_role`;

/**
 * What no statement of ours can make up for, for an operator; null: the server is fit.
 *
 * @param query runs a statement
 */
export async function unfitness(query: (text: string) => Promise<unknown[]>): Promise<string | null> {
  const [server] = (await query(LOOK)) as [Server];
  if (server.encoding !== 'UTF8') {
    return `the database's encoding is ${server.encoding}, which cannot hold every text: it has to be UTF8`;
  }
  if (server.is_standby) return 'the server is a standby, which can only be read';
  if (server.replication_role !== 'origin') {
    return `session_replication_role is ${server.replication_role}, with which deletions leave rows behind: it has to be origin`;
  }
  return null;
}

/** @throws MissingPartError where the server answers, and is not fit */
export async function checkServer(database: Database): Promise<void> {
  const reason = await unfitness((text) => database.readOnce((db) => runOn(db, sql`${sql.raw(text)}`)));
  if (reason !== null) throw new MissingPartError(reason);
}
