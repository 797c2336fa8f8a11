import type pg from 'pg';
import { withinDeadline } from './deadline.js';
import { sessionDeleted } from './entries.js';
import { EventStream, TOMBSTONE_RETENTION_MS, MAX_READ_BYTES, STREAM_RETENTION_MS } from './event-stream.js';
import type {
  AppendResult,
  Cursor,
  EventType,
  LoggedFact,
  OnError,
  ReadResult,
  ShownText,
  StreamEntry,
  StreamEvent,
  StreamListener,
  StreamNews,
} from './event-stream.js';
import { PostgresAppends } from './postgres-appends.js';
import { NotificationListener, PostgresNotifier } from './postgres-notifications.js';
import { query } from './postgres-query.js';
import { toReadResult, toRecords, toShownText } from './records.js';

/** At most this many new entries of a session are handed to its listeners; who is further behind rereads. */
const MAX_NEWS = 100;

/** At most this many sessions are looked up in one query after they were notified. */
const MAX_NOTIFIED = 200;

const PRUNE_BATCH = 5_000;

/** The listeners of a session in this process, and up to where they have the news. */
interface Channel {
  listeners: Set<{ notify: StreamListener }>;
  /** Null: not known. The first notification then makes them read the log. */
  sent: Cursor | null;
}

interface NewsRow {
  sessionId: string;
  generation: string;
  head: number;
  /** Null where the stream has nothing new. */
  seq: number | null;
  type: EventType;
  data: string;
  ageMs: number;
}

/**
 * The event stream in PostgreSQL, in the tables of the `event_stream` migration, live by LISTEN/NOTIFY.
 *
 * A notification names sessions and nothing more; every process reads what is new of those it has listeners for, in
 * one query however many were notified. Its own appends take the same way.
 */
export class PostgresEventStream extends EventStream {
  private readonly pool: pg.Pool;
  private readonly deadlineMs: number;
  private readonly onError: OnError;
  private readonly appends: PostgresAppends;
  private readonly notifier: PostgresNotifier;
  private readonly listener: NotificationListener;
  private readonly channels = new Map<string, Channel>();
  private readonly notified = new Set<string>();
  private isReading = false;

  /**
   * @param options.pool for short queries only; stays open at {@link close}. It should have a
   *   `connectionTimeoutMillis` of about the deadline: otherwise a silent server lets calls that were given up
   *   pile up in it
   * @param options.databaseUrl for the one connection that listens, made at the first subscription
   * @param options.deadlineMs in which every call settles
   * @param options.onPooled called where a pooler stands between: {@link provesNotifications} finds out of what kind
   * @param options.onError called with failures that no call reports; a reread makes up for each of them
   */
  constructor(options: {
    pool: pg.Pool;
    databaseUrl: string;
    deadlineMs: number;
    onError: OnError;
    onPooled?: () => void;
  }) {
    super();
    this.pool = options.pool;
    this.deadlineMs = options.deadlineMs;
    this.onError = options.onError;
    this.appends = new PostgresAppends(options.pool, options.deadlineMs);
    this.notifier = new PostgresNotifier(options.pool, options.deadlineMs, options.onError);
    this.listener = new NotificationListener(options.databaseUrl, options.deadlineMs, {
      notified: (sessionIds) => this.noteNotified(sessionIds),
      resumed: () => this.tellAllToLook(),
      pooled: options.onPooled ?? (() => undefined),
      error: options.onError,
    });
  }

  override head(sessionId: string): Promise<Cursor> {
    return this.within(this.touchHead(sessionId));
  }

  override async append(sessionId: string, entries: readonly StreamEntry[]): Promise<AppendResult> {
    const records = JSON.stringify(toRecords(entries));
    const result = await this.within(this.appends.append(sessionId, records));
    if (result.status === 'appended') this.notifier.notify(sessionId);
    return result;
  }

  override async read(sessionId: string, after: Cursor, limit: number): Promise<ReadResult> {
    const rows = await this.within(
      this.rows<{ head: number; seq: number | null; type: EventType; data: string }>(
        `select stream.head, entry.seq, entry.type, entry.data
         from event_streams stream
         left join lateral (
           select seq, type, data, sum(bytes) over (order by seq) - bytes as bytes_before
           from (
             select seq, type, data, octet_length(data) as bytes from event_stream_entries
             where session_id = stream.session_id and seq > $3::bigint order by seq limit $4::int
           ) page
         ) entry on entry.bytes_before < $5::int
         where stream.session_id = $1::uuid and stream.generation = $2::text
         order by entry.seq`,
        [sessionId, after.generation, after.seq, limit, MAX_READ_BYTES],
      ),
    );
    const head = rows[0] ? { generation: after.generation, seq: rows[0].head } : null;
    return toReadResult(after, head, toEvents(rows));
  }

  override async facts(sessionId: string): Promise<LoggedFact[]> {
    const rows = await this.within(
      this.rows<{ key: string; type: EventType; epoch: number }>(
        `select key, type, extract(epoch from created_at)::float8 as epoch from event_stream_entries
         where session_id = $1::uuid and key is not null order by seq`,
        [sessionId],
      ),
    );
    return rows.map(({ key, type, epoch }) => ({ key, type, at: new Date(epoch * 1_000).toISOString() }));
  }

  override shown(
    sessionId: string,
    replyIds: readonly string[],
  ): Promise<{ cursor: Cursor; texts: Map<string, ShownText> }> {
    return this.within(this.readShown(sessionId, replyIds));
  }

  override async seal(sessionId: string, replyId: string): Promise<ShownText | null> {
    const [sealed] = await this.within(
      this.rows<{ attempt: number; length: number; text: string }>(
        'select attempt, length, text from event_stream_seal($1::uuid, $2::uuid)',
        [sessionId, replyId],
      ),
    );
    return sealed ? toShownText(sealed.attempt, sealed.length, sealed.text) : null;
  }

  override async erase(sessionId: string): Promise<void> {
    const { type, data } = sessionDeleted();
    await this.within(
      this.rows('select event_stream_erase($1::uuid, $2::text, $3::text)', [
        sessionId,
        type,
        JSON.stringify(data),
      ]),
    );
    this.notifier.notify(sessionId);
  }

  override async subscribe(sessionId: string, listener: StreamListener): Promise<() => void> {
    let channel = this.channels.get(sessionId);
    if (!channel) {
      channel = { listeners: new Set(), sent: null };
      this.channels.set(sessionId, channel);
    }
    const { listeners } = channel;
    const entry = { notify: listener };
    listeners.add(entry);
    const unsubscribe = (): void => {
      if (listeners.delete(entry) && listeners.size === 0) this.channels.delete(sessionId);
    };
    try {
      await this.within(this.listener.listen());
    } catch (error) {
      unsubscribe();
      throw error;
    }
    return unsubscribe;
  }

  override async ping(): Promise<void> {
    await this.within(this.rows('select 1', []));
  }

  /** Listens from now on, not only from the first subscription on. */
  listen(): void {
    this.listener.listen().catch(() => undefined); // only where it closes meanwhile
  }

  /** @returns whether a notification of another connection arrives */
  provesNotifications(): Promise<boolean> {
    return this.within(this.listener.prove(this.pool));
  }

  /** In batches, for half the deadline at most: what is left is for the next time. */
  override async prune(): Promise<void> {
    await this.within(this.pruneUntil(performance.now() + this.deadlineMs / 2));
  }

  /** The pool stays open: it is not ours. */
  override async close(): Promise<void> {
    this.channels.clear();
    await Promise.allSettled([this.within(this.notifier.drain()), this.within(this.listener.close())]);
  }

  private within<T>(work: Promise<T>): Promise<T> {
    return withinDeadline(this.deadlineMs, work);
  }

  private async rows<Row extends object>(text: string, values: unknown[]): Promise<Row[]> {
    return (await query<Row>(this.pool, this.deadlineMs, text, values)).rows;
  }

  private async touchHead(sessionId: string): Promise<Cursor> {
    // Touched, so that a cursor that is given out is not pruned away the next moment.
    const rows = await this.rows<Cursor>(
      `insert into event_streams (session_id) values ($1::uuid)
       on conflict (session_id) do update set touched_at = now()
       returning generation, head as seq`,
      [sessionId],
    );
    return rows[0]!;
  }

  private async readShown(
    sessionId: string,
    replyIds: readonly string[],
  ): Promise<{ cursor: Cursor; texts: Map<string, ShownText> }> {
    // One statement, thus one snapshot: the texts are those of the head.
    const select = () =>
      this.rows<{
        generation: string;
        head: number;
        replyId: string | null;
        attempt: number;
        length: number;
        text: string;
      }>(
        `select stream.generation, stream.head, reply.reply_id::text as "replyId", reply.attempt, reply.length,
           event_stream_text(reply) as text
         from event_streams stream
         left join event_stream_replies reply on reply.session_id = stream.session_id
           and reply.reply_id = any ($2::uuid[]) and reply.state <> 'final'
         where stream.session_id = $1::uuid`,
        [sessionId, replyIds],
      );
    let rows = await select();
    if (rows.length === 0) {
      await this.touchHead(sessionId);
      rows = await select();
    }
    const texts = new Map<string, ShownText>();
    for (const { replyId, attempt, length, text } of rows) {
      const shown = replyId === null ? null : toShownText(attempt, length, text);
      if (replyId !== null && shown) texts.set(replyId, shown);
    }
    const { generation, head } = rows[0]!;
    return { cursor: { generation, seq: head }, texts };
  }

  private async pruneUntil(until: number): Promise<void> {
    // Streams last: while one has entries or replies, it keeps its generation and numbering.
    const deletes: [text: string, retentionMs: number][] = [
      [DELETE_TOMBSTONES, TOMBSTONE_RETENTION_MS],
      [
        batchedDelete('event_stream_entries', "created_at < now() - $1::int * interval '1 ms'"),
        STREAM_RETENTION_MS,
      ],
      [
        batchedDelete('event_stream_replies', "touched_at < now() - $1::int * interval '1 ms'"),
        STREAM_RETENTION_MS,
      ],
      [
        batchedDelete(
          'event_streams',
          `touched_at < now() - $1::int * interval '1 ms' and not exists (
             select from event_stream_entries entry where entry.session_id = expired.session_id
           ) and not exists (
             select from event_stream_replies reply where reply.session_id = expired.session_id)`,
        ),
        STREAM_RETENTION_MS,
      ],
    ];
    for (const [text, retentionMs] of deletes) {
      let deleted = PRUNE_BATCH;
      while (deleted === PRUNE_BATCH) {
        if (performance.now() >= until) return;
        const result = await query(this.pool, this.deadlineMs, text, [retentionMs, PRUNE_BATCH]);
        deleted = result.rowCount ?? 0;
      }
    }
  }

  private noteNotified(sessionIds: readonly string[]): void {
    for (const sessionId of sessionIds) {
      if (this.channels.has(sessionId)) this.notified.add(sessionId);
    }
    if (this.notified.size > 0 && !this.isReading) void this.readNotified();
  }

  /** One query at a time; notifications that come meanwhile are gathered for the next. */
  private async readNotified(): Promise<void> {
    this.isReading = true;
    while (this.notified.size > 0) {
      const sessionIds = [...this.notified].slice(0, MAX_NOTIFIED);
      for (const sessionId of sessionIds) this.notified.delete(sessionId);
      try {
        const news = Map.groupBy(await this.within(this.news(sessionIds)), (row) => row.sessionId);
        for (const sessionId of sessionIds) this.tellNews(sessionId, news.get(sessionId) ?? []);
      } catch (error) {
        this.onError(
          error as Error,
          'event_stream.read_failed',
          'the new events of notified sessions could not be read: each subscriber reads the log by itself',
        );
        for (const sessionId of sessionIds) this.notify(sessionId, null);
      }
    }
    this.isReading = false;
  }

  private news(sessionIds: string[]): Promise<NewsRow[]> {
    const sent = sessionIds.map((sessionId) => this.channels.get(sessionId)?.sent);
    return this.rows<NewsRow>(
      `select stream.session_id::text as "sessionId", stream.generation, stream.head,
         entry.seq, entry.type, entry.data,
         extract(epoch from clock_timestamp() - entry.created_at)::float8 * 1000 as "ageMs"
       from unnest($1::uuid[], $2::text[], $3::int[]) as sent (session_id, generation, seq)
       join event_streams stream using (session_id)
       left join lateral (
         select seq, type, data, created_at from event_stream_entries
         where session_id = sent.session_id and stream.generation = sent.generation and seq > sent.seq
         order by seq limit $4::int
       ) entry on true
       order by stream.session_id, entry.seq`,
      [
        sessionIds,
        sent.map((cursor) => cursor?.generation ?? ''),
        sent.map((cursor) => cursor?.seq ?? 0),
        MAX_NEWS,
      ],
    );
  }

  private tellNews(sessionId: string, rows: readonly NewsRow[]): void {
    const channel = this.channels.get(sessionId);
    if (!channel) return;
    const sent = channel.sent;
    const [stream] = rows;
    channel.sent = stream ? { generation: stream.generation, seq: stream.head } : null;
    const now = performance.now();
    const events = rows.flatMap(({ seq, type, data, ageMs }) =>
      seq === null ? [] : [{ seq, type, data, appendedAt: now - ageMs }],
    );
    // As many as numbers were given out since: none expired, none was cut off by the limit.
    const isAll =
      sent !== null && stream?.generation === sent.generation && sent.seq + events.length === stream.head;
    if (!isAll) this.notify(sessionId, null);
    else if (events.length > 0) this.notify(sessionId, { generation: stream.generation, events });
  }

  private tellAllToLook(): void {
    for (const sessionId of this.channels.keys()) this.notify(sessionId, null);
  }

  private notify(sessionId: string, news: StreamNews): void {
    for (const { notify } of this.channels.get(sessionId)?.listeners ?? []) {
      try {
        notify(news);
      } catch (error) {
        this.onError(
          error as Error,
          'event_stream.listener_failed',
          'a listener of the event stream threw an error: it missed an event until it reads the log',
        );
      }
    }
  }
}

/** The entries among rows of an outer join, in which a stream without any has one row of nulls. */
function toEvents(rows: readonly { seq: number | null; type: EventType; data: string }[]): StreamEvent[] {
  return rows.flatMap(({ seq, type, data }) => (seq === null ? [] : [{ seq, type, data }]));
}

/** A tombstone is the last entry of its stream. Left for as long as others, each would hold a page of the index. */
const DELETE_TOMBSTONES = `delete from event_stream_entries where ctid = any (array(
  select entry.ctid from event_streams stream
    join event_stream_entries entry on entry.session_id = stream.session_id and entry.seq = stream.head
  where stream.erased_at < now() - $1::int * interval '1 ms' for update of entry skip locked limit $2::int))`;

/** Locking first rechecks the condition on the newest version of a row, and passes over what is in use. */
function batchedDelete(table: string, condition: string): string {
  return `delete from ${table} where ctid = any (array(
    select ctid from ${table} as expired where ${condition} for update skip locked limit $2::int))`;
}
