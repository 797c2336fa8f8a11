/**
 * The event stream, from api and workers to subscribers. PostgreSQL's rows are the truth; of a stream that is lost,
 * everything can be published again from them.
 *
 * Each chat session has one stream. Its entries are numbered 1, 2, 3… without a hole, under the session's own
 * lock, so that "everything after entry n" is well defined. A cursor names a number and the stream's random
 * generation: a stream that was lost and began anew has another generation, and an old cursor is recognised
 * instead of mistaken.
 *
 * For each reply the stream keeps which attempt is writing, how much text it has, and whether more may follow:
 *
 *     open(attempt, length) ──seal()──▶ sealed ──final event──▶ final
 *        │  ▲   └────────────────final event──────────────────────┘
 *        │  └──start of a higher attempt──┐
 *        └──────reply.retrying──────▶ paused, which is sealed and ends as an open one does
 */

export const EventType = {
  MessageCreated: 'message.created',
  ReplyQueued: 'reply.queued',
  ReplyStarted: 'reply.started',
  ReplyDelta: 'reply.delta',
  ReplyRetrying: 'reply.retrying',
  ReplyCompleted: 'reply.completed',
  ReplyCancelled: 'reply.cancelled',
  ReplyFailed: 'reply.failed',
  SessionDeleted: 'session.deleted',
  SessionSnapshot: 'session.snapshot',
} as const;
export type EventType = (typeof EventType)[keyof typeof EventType];

/** A place in a session's stream: right after entry `seq`; 0 is before the first. */
export interface Cursor {
  generation: string;
  seq: number;
}

/** An entry as subscribers get it. `data` is JSON text, ready for the wire. */
export interface StreamEvent {
  seq: number;
  type: EventType;
  data: string;
  /**
   * When it was appended, in this process's `performance.now()`, by the clock of the store: for measuring only. Known
   * of news that are pushed, and not of what is read from the log.
   */
  appendedAt?: number;
}

/** A piece of a reply's text. `offset` is how many UTF-16 units of this attempt came before. */
export interface DeltaEntry {
  type: typeof EventType.ReplyDelta;
  replyId: string;
  attempt: number;
  offset: number;
  text: string;
}

/** What happened once, and may be published by any process, any number of times: a repeated `key` is ignored. */
export interface FactEntry {
  type: Exclude<EventType, typeof EventType.ReplyDelta | typeof EventType.SessionSnapshot>;
  /** The natural key: type, id and, where there is one, attempt. */
  key: string;
  /** Becomes the event's `data`. */
  data: object;
  /** What it does to the stream's state of a reply. */
  reply?: {
    id: string;
    attempt: number;
    /**
     * `start`: the text is this attempt's from here, from length 0. `pause`: no more text of this attempt, what there is
     * stays. `end`: no more text, ever.
     */
    effect: 'start' | 'pause' | 'end';
    /** With `end`: the UTF-16 length that this attempt's text must have in the stream by then; null: any. */
    length: number | null;
  };
}

export type StreamEntry = DeltaEntry | FactEntry;

/**
 * What became of an append, all or nothing:
 * - `appended`: every entry is in the stream, or was before.
 * - `refused`: it holds an entry of a lower attempt, text for a sealed or final reply, or the session is erased.
 *   Whoever writes for that attempt must stop.
 * - `behind`: an entry presumes text that the stream does not have (the stream was lost, or an append failed):
 *   it has `length` units of `attempt` of that reply; append again from there, `reply.started` first where
 *   `attempt` is lower than one's own. Attempt 0: the stream does not know the reply.
 */
export type AppendResult =
  | { status: 'appended'; cursor: Cursor }
  | { status: 'refused' }
  | { status: 'behind'; replyId: string; attempt: number; length: number };

/** A fact that stands in the log, without its data. */
export interface LoggedFact {
  /** Its natural key. */
  key: string;
  type: EventType;
  /** When it was appended, ISO 8601, by the store's clock. */
  at: string;
}

/** The text of a reply as subscribers have it. */
export interface ShownText {
  attempt: number;
  text: string;
}

/**
 * `lost`: the cursor is of another generation, or entries after it have expired.
 * An erased stream has no status of its own: the rows show that the session is deleted.
 */
export type ReadResult =
  { status: 'events'; events: StreamEvent[]; cursor: Cursor; hasMore: boolean } | { status: 'lost' };

/** New entries in order, or null for "look at the log". */
export type StreamNews = { generation: string; events: readonly StreamEvent[] } | null;

/** May be called with entries that it already has. */
export type StreamListener = (news: StreamNews) => void;

/**
 * Called with a failure that no call reports.
 *
 * @param event the stable name of the failure in the log
 * @param message what failed and what follows from it
 */
export type OnError = (error: Error, event: string, message: string) => void;

/** The stream cannot be reached, or did not answer within its deadline. The rows are not affected. */
export class EventStreamUnavailableError extends Error {
  override readonly name = 'EventStreamUnavailableError';
}

/**
 * The port, with an adapter on Redis and one on PostgreSQL that pass the same contract tests. Every method
 * settles within its deadline, with {@link EventStreamUnavailableError} at the worst.
 */
export abstract class EventStream {
  /** Where the stream stands now. Begins a stream where there is none, so that the cursor stays good. */
  abstract head(sessionId: string): Promise<Cursor>;

  /**
   * Appends entries atomically, in order. Within one call, an entry sees the effects of those before it.
   * A delta that repeats text the stream has is ignored; a sealed reply takes text, or another attempt, only in
   * the same call as its `end`, which comes from committed rows.
   *
   * @throws TypeError when an entry holds a NUL or a lone surrogate, which no store can keep; nothing is applied
   */
  abstract append(sessionId: string, entries: readonly StreamEntry[]): Promise<AppendResult>;

  /**
   * At most `limit` entries after the cursor, fewer where they exceed {@link MAX_READ_BYTES} together, and the cursor
   * behind the last of them.
   */
  abstract read(sessionId: string, after: Cursor, limit: number): Promise<ReadResult>;

  /** The facts that the log still has, in order: for operators, who ask what subscribers were told and when. */
  abstract facts(sessionId: string): Promise<LoggedFact[]>;

  /** The head and, consistent with it, the text of each of these replies that the stream knows and that has not ended. */
  abstract shown(
    sessionId: string,
    replyIds: readonly string[],
  ): Promise<{ cursor: Cursor; texts: Map<string, ShownText> }>;

  /**
   * Refuses any more text for the reply, also before its first, and gives what was shown; null where the stream knows nothing of it, or
   * not all of it any more, or where it has ended: then its text is in the rows.
   */
  abstract seal(sessionId: string, replyId: string): Promise<ShownText | null>;

  /**
   * Deletes all entries of the session but a tombstone, `session.deleted`, kept for a minute at least, and refuses
   * appends from then on, for {@link STREAM_RETENTION_MS}.
   */
  abstract erase(sessionId: string): Promise<void>;

  /**
   * Listens for news of a session. Resolves when listening has begun: entries appended after that reach the
   * listener, or it is called with null. The returned function ends it, and is safe to call twice.
   */
  abstract subscribe(sessionId: string, listener: StreamListener): Promise<() => void>;

  /** Resolves when the stream answers. */
  abstract ping(): Promise<void>;

  /** Deletes what has expired, where the store does not do so by itself. */
  abstract prune(): Promise<void>;

  abstract close(): Promise<void>;
}

/** A read ends with the entry that passes this size of data: it has to arrive within the deadline. */
export const MAX_READ_BYTES = 262_144;

/** Entries expire this long after they were appended, at the earliest: time enough to resume after a nap. */
export const STREAM_RETENTION_MS = 3_600_000;

/** How long the tombstone of a deleted session is kept for its subscribers; later ones find the deletion in the rows. */
export const TOMBSTONE_RETENTION_MS = 60_000;

const CURSOR = /^([0-9a-z]{8,32})-(0|[1-9]\d{0,14})$/;

export function formatCursor(cursor: Cursor): string {
  return `${cursor.generation}-${cursor.seq}`;
}

/** The cursor in a client's text, or null where it is none of ours: hostile input is as good as unknown. */
export function parseCursor(text: string): Cursor | null {
  const match = CURSOR.exec(text);
  return match ? { generation: match[1]!, seq: Number(match[2]) } : null;
}

/** A cursor that no stream knows: whoever opens with it gets a snapshot first, and so loses nothing either. */
export const UNKNOWN_CURSOR = 'unknown0-0';
