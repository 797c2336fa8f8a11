import pg from 'pg';
import { within } from '../runtime/within.js';
import { connectionOptions } from './postgres-connection.js';

/** A statement takes milliseconds; a pooler that has no other connection to give lets its client wait for far longer. */
const ANSWER_TIMEOUT_MS = 3_000;

/**
 * Whether a URL leads through a pooler in transaction mode, where every statement may run on another connection: what a
 * session keeps (locks, notifications, settings) is lost there.
 *
 * A pooler gives its clients numbers of its own, and only one in transaction mode lets another client have the server's
 * connection between two transactions.
 */
export async function isTransactionPooler(databaseUrl: string): Promise<boolean> {
  const connection = connectionOptions(databaseUrl, {
    applicationName: 'assistly-migrate',
    connectTimeoutMs: ANSWER_TIMEOUT_MS,
  });
  const [asking, busy] = [new pg.Client(connection), new pg.Client(connection)];
  for (const client of [asking, busy]) client.on('error', () => undefined); // the promises tell it
  const pidOf = async (client: pg.Client): Promise<number | undefined> =>
    (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid;
  try {
    await asking.connect();
    const before = await pidOf(asking);
    if (before === (asking as unknown as { processID: number | null }).processID) return false;
    try {
      await within(ANSWER_TIMEOUT_MS, busy.connect());
      await within(ANSWER_TIMEOUT_MS, busy.query('begin'));
    } catch {
      return false; // all connections are in use, and stay with those who have them
    }
    // No answer: the other one has the only connection.
    return (await within(ANSWER_TIMEOUT_MS, pidOf(asking)).catch(() => null)) !== before;
  } finally {
    for (const client of [asking, busy]) void client.end().catch(() => undefined);
  }
}
