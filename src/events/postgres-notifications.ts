import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { connectionOptions } from '../database/postgres-connection.js';
import { withinDeadline } from './deadline.js';
import type { OnError } from './event-stream.js';
import { query } from './postgres-query.js';
import { NoAnswerError, within } from '../runtime/within.js';

/**
 * Notifications between processes through PostgreSQL's NOTIFY. Each names sessions whose streams have new entries,
 * and carries no content; one that is lost only delays their events.
 */

const CHANNEL = 'assistly_events';
/** On which a process proves to itself that notifications arrive. */
const PROOF_CHANNEL = 'assistly_proof';
/** A notification takes milliseconds; this is for a busy machine, and less than a readiness check may take. */
const PROOF_TIMEOUT_MS = 1_000;

/** A flush costs a commit under a lock of the whole database, so notifications are gathered this long, in milliseconds. */
const FLUSH_INTERVAL_MS = 20;

/** An id takes 37 bytes, and PostgreSQL refuses payloads from 8,000 bytes on. */
const IDS_PER_PAYLOAD = 200;

/** Sessions that wait to be notified. Beyond, the database has been away for long, and subscribers reread anyway. */
const MAX_PENDING = 10_000;

export class PostgresNotifier {
  private readonly pending = new Set<string>();
  private sending: Promise<void> | null = null;

  constructor(
    private readonly pool: pg.Pool,
    private readonly deadlineMs: number,
    private readonly onError: OnError,
  ) {}

  /**
   * Notifies soon: at once after a pause, together with others otherwise. Never within the append's transaction:
   * a NOTIFY takes its lock at commit, and would put every append of the database in one line.
   */
  notify(sessionId: string): void {
    if (this.pending.size >= MAX_PENDING) return;
    this.pending.add(sessionId);
    this.sending ??= this.send();
  }

  /** Resolves when every notification so far was sent, or failed. */
  async drain(): Promise<void> {
    await this.sending;
  }

  private async send(): Promise<void> {
    while (this.pending.size > 0) {
      const ids = [...this.pending];
      this.pending.clear();
      const payloads: string[] = [];
      for (let i = 0; i < ids.length; i += IDS_PER_PAYLOAD) {
        payloads.push(ids.slice(i, i + IDS_PER_PAYLOAD).join(','));
      }
      try {
        await withinDeadline(
          this.deadlineMs,
          query(
            this.pool,
            this.deadlineMs,
            'select pg_notify($1::text, payload) from unnest($2::text[]) as payload',
            [CHANNEL, payloads],
          ),
        );
      } catch (error) {
        this.onError(
          error as Error,
          'event_stream.notify_failed',
          'a notification of new events could not be sent: subscribers get the events when they next read the log',
        );
      }
      await sleep(FLUSH_INTERVAL_MS);
    }
    this.sending = null;
  }
}

/** Delays between attempts to listen again, in milliseconds. */
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2_000;

/** A peer that vanished is noticed about ten probes, of a second each, after this silence. */
const KEEPALIVE_MS = 10_000;

/** The one connection of a process that listens; a session connection, which a transaction pooler is not. */
export class NotificationListener {
  private client: pg.Client | null = null;
  /** Settles when LISTEN is in force. Null before the first use. */
  private listening: Promise<void> | null = null;
  private isClosed = false;
  private readonly proofs = new Map<string, () => void>();

  constructor(
    private readonly databaseUrl: string,
    private readonly deadlineMs: number,
    private readonly on: {
      notified: (sessionIds: string[]) => void;
      /** LISTEN is in force again: notifications in between are lost. */
      resumed: () => void;
      /** A pooler stands between, which may be one that delivers no notifications: see {@link prove}. */
      pooled: () => void;
      error: OnError;
    },
  ) {}

  /** Resolves when LISTEN is in force, however long it takes: the caller has the deadline. */
  listen(): Promise<void> {
    return (this.listening ??= this.connect());
  }

  /** @returns whether a notification from another connection arrives, as none does through a transaction pooler */
  async prove(pool: pg.Pool): Promise<boolean> {
    await this.listen();
    const proof = randomUUID();
    const arrived = new Promise<void>((resolve) => this.proofs.set(proof, resolve));
    try {
      await query(pool, this.deadlineMs, 'select pg_notify($1::text, $2::text)', [PROOF_CHANNEL, proof]);
      await within(PROOF_TIMEOUT_MS, arrived);
      return true;
    } catch (error) {
      if (error instanceof NoAnswerError) return false;
      throw error;
    } finally {
      this.proofs.delete(proof);
    }
  }

  async close(): Promise<void> {
    this.isClosed = true;
    const client = this.client;
    this.client = null;
    await client?.end();
  }

  private async connect(): Promise<void> {
    for (
      let backoffMs = MIN_BACKOFF_MS;
      !this.isClosed;
      backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS)
    ) {
      try {
        await this.open();
        return;
      } catch (error) {
        this.on.error(
          error as Error,
          'event_stream.listen_failed',
          'the event stream could not listen for notifications and tries again: subscribers wait, or read the log',
        );
        await sleep(backoffMs, undefined, { ref: false });
      }
    }
    throw new Error('the event stream is closed');
  }

  private async open(): Promise<void> {
    const client = new pg.Client({
      ...connectionOptions(this.databaseUrl, {
        applicationName: 'assistly-event-stream',
        connectTimeoutMs: this.deadlineMs,
        keepAliveIdleMs: KEEPALIVE_MS,
      }),
      query_timeout: this.deadlineMs,
    });
    client.on('notification', ({ channel, payload = '' }) => {
      if (channel === PROOF_CHANNEL) this.proofs.get(payload)?.();
      else this.on.notified(payload.split(','));
    });
    client.on('error', (error) =>
      this.on.error(
        error,
        'event_stream.listen_failed',
        'the event stream lost the connection that listens and connects again: subscribers then read the log',
      ),
    );
    client.once('end', () => {
      if (this.client !== client) return;
      this.client = null;
      this.listening = this.connect();
      this.listening.then(this.on.resumed, () => undefined);
    });
    try {
      await client.connect();
      // It is idle by nature, whatever a role allows.
      await client.query(`set idle_session_timeout = 0; listen ${CHANNEL}; listen ${PROOF_CHANNEL}`);
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
      // A pooler gives its clients numbers of its own.
      if (rows[0]?.pid !== (client as unknown as { processID: number | null }).processID) this.on.pooled();
    } catch (error) {
      // Not awaited: a server that did not answer does not answer this either.
      void client.end().catch(() => undefined);
      throw error;
    }
    if (this.isClosed) await client.end();
    else this.client = client;
  }
}
