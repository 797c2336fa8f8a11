import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { Principal } from '../auth/principal.js';
import { createEventToken } from '../auth/session-tokens.js';
import { RateLimits } from '../limits/rate-limits.js';
import { SessionAccess } from '../conversations/session-access.js';
import { Database } from '../database/database.js';
import {
  type Cursor,
  EventStream,
  EventStreamUnavailableError,
  EventType,
  formatCursor,
  parseCursor,
  UNKNOWN_CURSOR,
} from '../events/event-stream.js';
import { follow } from '../events/follow.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { type MessageDto, type MessageRow, toMessageDto } from '../conversations/message.dto.js';
import type { EventTokenDto } from './event-token.dto.js';
import type { SnapshotReplyDto } from './session-event.dto.js';
import { delayOf, isFinal, messageId, type ReplyRow, toReplyDto } from '../conversations/reply.dto.js';

/** How many messages and replies a snapshot holds. */
const SNAPSHOT_SIZE = 50;
/** How often a snapshot is taken again because a reply began meanwhile. */
const SNAPSHOT_ROUNDS = 5;

/** What goes over the wire: one event, or only a cursor. `data` is JSON text. */
export interface Frame {
  id: string;
  event?: EventType;
  data?: string;
  /** See {@link StreamEvent.appendedAt}. */
  appendedAt?: number;
}

export const SESSION_DELETED: Frame = { id: UNKNOWN_CURSOR, event: EventType.SessionDeleted, data: '{}' };

@Injectable()
export class SessionEventsService {
  constructor(
    private readonly sessions: SessionAccess,
    private readonly limits: RateLimits,
    private readonly database: Database,
    private readonly stream: EventStream,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'snapshotRetryIntervalMs'>,
  ) {}

  async createToken(caller: Principal, sessionId: string): Promise<EventTokenDto> {
    const session = await this.sessions.find(caller, sessionId);
    const { token, expiresAt } = createEventToken(session.id, session.event_token_key);
    return { token, expiresAt: expiresAt.toISOString() };
  }

  /** Checks that the session is the caller's, before anything is streamed. */
  async authorize(caller: Principal, sessionId: string): Promise<void> {
    await this.sessions.find(caller, sessionId);
  }

  /**
   * Checks that the session is the caller's, and takes a place among those who follow.
   *
   * @returns what gives the place back
   * @throws AppError not_found, rate_limited
   */
  async enter(caller: Principal, sessionId: string, address: string): Promise<() => void> {
    const { id, chatbot_id, limits } = await this.sessions.find(caller, sessionId);
    return this.limits.hold(
      [
        { limit: 'streamsPerSession', of: id },
        // An owner's server follows for many guests from one address.
        ...(caller.kind === 'owner' ? [] : [{ limit: 'streamsPerAddress' as const, of: address }]),
      ],
      { id: chatbot_id, limits },
    );
  }

  async exists(sessionId: string): Promise<boolean> {
    const session = await this.database.read((db) =>
      db.selectFrom('chat_sessions').select('id').where('id', '=', sessionId).executeTakeFirst(),
    );
    return session !== undefined;
  }

  /**
   * The events of a session: first the cursor where it starts, then what follows it, with a snapshot wherever
   * the stream cannot continue. Ends with `session.deleted`, or when the signal aborts.
   *
   * @param after the client's cursor, whatever it sent; null to begin with what happens next
   */
  async *open(
    sessionId: string,
    after: string | null,
    signal: AbortSignal,
  ): AsyncGenerator<Frame, void, undefined> {
    let cursor = await this.startingPoint(sessionId, after);
    // An unknown cursor is given back as such: who is cut off before the snapshot asks for it again.
    yield { id: cursor ? formatCursor(cursor) : UNKNOWN_CURSOR };
    while (!signal.aborted) {
      if (!cursor) {
        const snapshot = await this.snapshot(sessionId, signal);
        if (!snapshot) {
          if (!signal.aborted) yield SESSION_DELETED;
          return;
        }
        cursor = snapshot.cursor;
        yield {
          id: formatCursor(cursor),
          event: EventType.SessionSnapshot,
          data: JSON.stringify(snapshot.data),
        };
      }
      for await (const step of follow(this.stream, sessionId, cursor, signal)) {
        if (step === 'lost') {
          cursor = null;
          break;
        }
        for (const { seq, type, data, appendedAt } of step.events) {
          yield {
            id: formatCursor({ generation: step.cursor.generation, seq }),
            event: type,
            data,
            appendedAt,
          };
          if (type === EventType.SessionDeleted) return;
        }
      }
    }
  }

  /** Null where the client's cursor cannot be continued from. */
  private async startingPoint(sessionId: string, after: string | null): Promise<Cursor | null> {
    const cursor = after === null ? null : parseCursor(after);
    if (after !== null && cursor === null) return null;
    try {
      if (cursor === null) return await this.stream.head(sessionId);
      const read = await this.stream.read(sessionId, cursor, 1);
      return read.status === 'lost' ? null : cursor;
    } catch (error) {
      if (!(error instanceof EventStreamUnavailableError)) throw error;
      return cursor; // the stream is opened all the same: an error would keep a browser from ever coming back
    }
  }

  /** Rows and shown texts that belong to one cursor; null where the session is gone, or the signal aborted. */
  private async snapshot(
    sessionId: string,
    signal: AbortSignal,
  ): Promise<{ cursor: Cursor; data: { messages: MessageDto[]; replies: SnapshotReplyDto[] } } | null> {
    let unfinished: string[] = [];
    for (let round = 1; !signal.aborted;) {
      let shown: Awaited<ReturnType<EventStream['shown']>>;
      try {
        shown = await this.stream.shown(sessionId, unfinished);
      } catch (error) {
        if (!(error instanceof EventStreamUnavailableError)) throw error;
        await sleep(this.timings.snapshotRetryIntervalMs);
        continue;
      }
      // Rows are read after the cursor was taken: they may be ahead of it, never behind. And messages after replies:
      // a reply that is final brings its message.
      if (!(await this.exists(sessionId))) return null;
      const replies = await this.newestReplies(sessionId);
      const messages = await this.newestMessages(sessionId);
      const wanted = replies.filter((reply) => !isFinal(reply.status)).map((reply) => reply.id);
      // The stream may hold text, from before the cursor, of a reply that it was not asked about: ask again.
      if (round++ < SNAPSHOT_ROUNDS && !wanted.every((id) => unfinished.includes(id))) {
        unfinished = wanted;
        continue;
      }
      return {
        cursor: shown.cursor,
        data: {
          messages: messages.map(toMessageDto),
          replies: replies.map((row) => {
            const reply = toReplyDto(row);
            if (isFinal(row.status)) return reply;
            const text = shown.texts.get(row.id);
            const attempt = text?.attempt ?? reply.attempt;
            return { ...reply, attempt, text: text?.text ?? '', delay: delayOf(row) };
          }),
        },
      };
    }
    return null;
  }

  private async newestMessages(sessionId: string): Promise<MessageRow[]> {
    const rows = await this.database.read((db) =>
      db
        .selectFrom('messages')
        .selectAll()
        .where('chat_session_id', '=', sessionId)
        .orderBy('sequence', 'desc')
        .limit(SNAPSHOT_SIZE)
        .execute(),
    );
    return rows.reverse();
  }

  private async newestReplies(sessionId: string): Promise<ReplyRow[]> {
    const rows = await this.database.read((db) =>
      db
        .selectFrom('replies')
        .selectAll()
        .select(messageId)
        .where('chat_session_id', '=', sessionId)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .limit(SNAPSHOT_SIZE)
        .execute(),
    );
    return rows.reverse();
  }
}
