import { Inject, Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { notFound } from '../common/app-error.js';
import { Bell } from '../common/bell.js';
import { Shutdown } from '../common/shutdown.js';
import { isOf } from '../chat-sessions/chat-sessions.service.js';
import { Database } from '../database/database.js';
import { EventStream, EventType } from '../events/event-stream.js';
import type { IdempotentRequest } from '../limits/idempotency.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { ReplyAnnouncer } from './reply-announcer.js';
import { ReplyCancellation } from './reply-cancellation.js';
import { ReplyLifecycle } from './reply-lifecycle.js';
import { ReplyQueue } from './reply-queue.js';
import { isFinal, replyColumns, type ReplyDto, type ReplyRow, toReplyDto } from './reply.dto.js';

/** The longest poll, in seconds. */
export const MAX_WAIT_SECONDS = 30;

const FINAL_EVENTS: readonly string[] = [
  EventType.ReplyCompleted,
  EventType.ReplyCancelled,
  EventType.ReplyFailed,
  EventType.SessionDeleted,
];

@Injectable()
export class RepliesService {
  constructor(
    private readonly database: Database,
    private readonly stream: EventStream,
    private readonly lifecycle: ReplyLifecycle,
    private readonly cancellation: ReplyCancellation,
    private readonly announcer: ReplyAnnouncer,
    private readonly queue: ReplyQueue,
    private readonly shutdown: Shutdown,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'pollReadIntervalMs'>,
  ) {}

  /** @throws AppError not_found where there is none, or it is not the caller's */
  async get(caller: Principal, id: string): Promise<ReplyDto> {
    return toReplyDto(await this.find(caller, id));
  }

  /**
   * The reply once it is final, or as it is after so many seconds, when the caller has gone, or when the process
   * stops.
   */
  async wait(caller: Principal, id: string, seconds: number, callerGone: AbortSignal): Promise<ReplyDto> {
    let row = await this.find(caller, id);
    if (isFinal(row.status) || seconds === 0) return toReplyDto(row);
    const end = AbortSignal.any([callerGone, this.shutdown.signal, AbortSignal.timeout(seconds * 1000)]);
    const bell = new Bell();
    const unsubscribe = await this.stream
      .subscribe(row.chat_session_id, (news) => {
        if (!news || news.events.some((event) => FINAL_EVENTS.includes(event.type))) bell.ring();
      })
      .catch(() => () => undefined); // then the rows alone tell
    try {
      for (;;) {
        // Read again first: it may have ended before anybody listened.
        row = await this.find(caller, id);
        if (isFinal(row.status) || end.aborted) return toReplyDto(row);
        await bell.wait(this.timings.pollReadIntervalMs, end);
      }
    } finally {
      unsubscribe();
    }
  }

  /** Stops a reply; on a final one it changes nothing. The answer is final. */
  async cancel(caller: Principal, id: string): Promise<ReplyDto> {
    const row = await this.find(caller, id);
    if (!isFinal(row.status)) await this.cancellation.cancel(row.chat_session_id, row.id);
    return toReplyDto(await this.find(caller, id));
  }

  /**
   * Asks again for what a failed or cancelled reply should have answered.
   *
   * @throws AppError not_found, reply_not_retryable; the idempotency errors
   */
  async retry(
    caller: Principal,
    id: string,
    requestId: string,
    idempotent: IdempotentRequest | null,
  ): Promise<{ reply: ReplyDto; cursor: string; isReplay: boolean }> {
    const { chat_session_id: sessionId } = await this.find(caller, id);
    const before = await this.announcer.cursor(sessionId);
    const {
      reply: row,
      dispatch,
      cursor,
      isReplay,
    } = await this.lifecycle.retry(sessionId, id, requestId, idempotent, before);
    const reply = toReplyDto(row);
    if (!isReplay) {
      await Promise.all([this.announcer.announceQueued(reply), dispatch && this.queue.ring(dispatch)]);
    }
    return { reply, cursor, isReplay };
  }

  private async find(caller: Principal, id: string): Promise<ReplyRow> {
    const [row] = await this.database.runSafely(
      sql<ReplyRow>`
        select ${replyColumns} from replies
        join chat_sessions s on s.id = replies.chat_session_id
        join chatbots c on c.id = s.chatbot_id
        where replies.id = ${id} and ${isOf(caller)}`,
    );
    if (!row) throw notFound();
    return row;
  }
}
