import { EventType } from './event-stream.js';
import type { Cursor, ReadResult, ShownText, StreamEntry, StreamEvent } from './event-stream.js';

/** What the two adapters of the event stream share: the form entries are stored in, and how it is read back. */

/** An entry as the stores' append functions take it. */
export interface EntryRecord {
  type: EventType;
  /** Null for a delta: its offset is what makes repeating it harmless. */
  key: string | null;
  /** JSON text, as subscribers get it. */
  data: string;
  replyId: string | null;
  attempt: number | null;
  effect: 'delta' | 'start' | 'pause' | 'end' | null;
  offset: number | null;
  /** In UTF-16 units, which neither store can count: of a delta's text, or what an end asks for (null: any). */
  length: number | null;
  /** Whether the same append ends this reply further on, which lets text through a seal. */
  endsLater: boolean;
}

/**
 * What JSON.stringify writes for a NUL or a lone surrogate, which PostgreSQL's text and UTF-8 cannot hold. The
 * backslash must not itself be escaped.
 */
const UNSTORABLE = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/;

/** @throws TypeError when an entry holds a NUL or a lone surrogate: callers make text well-formed at the edge */
export function toRecords(entries: readonly StreamEntry[]): EntryRecord[] {
  // Backwards, so that for each entry it is known whether an end follows.
  const ended = new Set<string>();
  const records: EntryRecord[] = [];
  for (const entry of entries.toReversed()) {
    const record = toRecord(entry, ended);
    if (UNSTORABLE.test(record.data)) {
      throw new TypeError(`${entry.type} holds a NUL or a lone surrogate`);
    }
    if (record.effect === 'end' && record.replyId !== null) ended.add(record.replyId);
    records.push(record);
  }
  return records.reverse();
}

function toRecord(entry: StreamEntry, ended: ReadonlySet<string>): EntryRecord {
  if (entry.type === EventType.ReplyDelta) {
    const { type, replyId, attempt, offset, text } = entry;
    return {
      type,
      key: null,
      data: JSON.stringify({ replyId, attempt, offset, text }),
      replyId,
      attempt,
      effect: 'delta',
      offset,
      length: text.length,
      endsLater: ended.has(replyId),
    };
  }
  const { type, key, data, reply } = entry;
  return {
    type,
    key,
    data: JSON.stringify(data),
    replyId: reply?.id ?? null,
    attempt: reply?.attempt ?? null,
    effect: reply?.effect ?? null,
    offset: null,
    length: reply?.length ?? null,
    endsLater: reply !== undefined && ended.has(reply.id),
  };
}

/** Whether the events follow entry `seq` without a hole. */
export function continues(events: readonly StreamEvent[], seq: number): boolean {
  return events.every((event, index) => event.seq === seq + 1 + index);
}

/**
 * The result of a read from where the stream stands (null: there is none) and the entries found after the
 * cursor. As numbers are dense, a hole betrays entries that expired; no separate mark of the oldest is needed.
 */
export function toReadResult(after: Cursor, head: Cursor | null, events: StreamEvent[]): ReadResult {
  if (head?.generation !== after.generation) return { status: 'lost' };
  const isAll = events.length > 0 ? continues(events, after.seq) : after.seq === head.seq;
  if (!isAll) return { status: 'lost' };
  const cursor = { generation: after.generation, seq: after.seq + events.length };
  return { status: 'events', events, cursor, hasMore: cursor.seq < head.seq };
}

/**
 * The text shown of a reply; null where no attempt has begun (attempt 0), or where part of it has expired, which is as
 * good as not knowing it.
 */
export function toShownText(attempt: number, length: number, text: string): ShownText | null {
  return attempt > 0 && text.length === length ? { attempt, text } : null;
}
