import { Inject, Injectable } from '@nestjs/common';
import type { Principal } from '../auth/principal.js';
import { notFound } from '../runtime/app-error.js';
import { Latch } from '../runtime/latch.js';
import { Shutdown } from '../runtime/shutdown.js';
import { isOf } from '../conversations/session-access.js';
import type { OwnLimits } from '../limits/limit-names.js';
import { type LimitedChatbot, RateLimits, StoreDown } from '../limits/rate-limits.js';
import { Database } from '../database/database.js';
import { EventStream, EventType } from '../events/event-stream.js';
import type { IdempotentRequest } from '../database/idempotency.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { ReplyEventPublisher } from '../conversations/reply-event-publisher.js';
import { ReplyCancellation } from '../conversations/reply-cancellation.js';
import { ReplyPosting } from '../conversations/reply-store/posting.js';
import { ReplyQueue } from '../conversations/reply-queue.js';
import { CancelledBy } from '../conversations/reply-status.js';
import { isFinal, messageId, type ReplyDto, type ReplyRow, toReplyDto } from '../conversations/reply.dto.js';

/** The longest poll, in seconds. */
export const MAX_WAIT_SECONDS = 30;

const FINAL_EVENTS: readonly string[] = [
  EventType.ReplyCompleted,
  EventType.ReplyCancelled,
  EventType.ReplyFailed,
  EventType.SessionDeleted,
];

/** A reply, with what its chatbot says of it. */
type FoundReply = ReplyRow & { is_enabled: boolean; limits: OwnLimits | null; of_chatbot: string };

const chatbotOf = ({ of_chatbot: id, limits }: FoundReply): LimitedChatbot => ({ id, limits });

@Injectable()
export class RepliesService {
  constructor(
    private readonly database: Database,
    private readonly stream: EventStream,
    private readonly limits: RateLimits,
    private readonly posting: ReplyPosting,
    private readonly cancellation: ReplyCancellation,
    private readonly publisher: ReplyEventPublisher,
    private readonly queue: ReplyQueue,
    private readonly shutdown: Shutdown,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'pollReadIntervalMs'>,
  ) {}

  /**
   * The reply once it is final, or as it is after so many seconds, when the caller has gone, or when the process
   * stops.
   *
   * @throws AppError not_found; rate_limited where too many wait
   */
  async wait(caller: Principal, id: string, seconds: number, callerGone: AbortSignal): Promise<ReplyDto> {
    let row = await this.find(caller, id);
    if (isFinal(row.status) || seconds === 0) return toReplyDto(row);
    const leave = await this.limits.hold([{ limit: 'longPolls', of: row.chat_session_id }], chatbotOf(row));
    const end = AbortSignal.any([callerGone, this.shutdown.signal, AbortSignal.timeout(seconds * 1000)]);
    const latch = new Latch();
    const unsubscribe = await this.stream
      .subscribe(row.chat_session_id, (news) => {
        if (!news || news.events.some((event) => FINAL_EVENTS.includes(event.type))) latch.set();
      })
      .catch(() => () => undefined); // without the stream, the rows are polled alone
    try {
      for (;;) {
        // Read again first: it may have ended before anybody listened.
        row = await this.find(caller, id);
        if (isFinal(row.status) || end.aborted) return toReplyDto(row);
        await latch.wait(this.timings.pollReadIntervalMs, end);
      }
    } finally {
      leave();
      unsubscribe();
    }
  }

  /**
   * Stops a reply; on a final one it changes nothing. The answer is final.
   *
   * @throws AppError not_found, rate_limited
   */
  async cancel(caller: Principal, id: string): Promise<ReplyDto> {
    const row = await this.find(caller, id);
    await this.limits.take(
      [{ limit: 'actionsPerSession', of: row.chat_session_id }],
      chatbotOf(row),
      StoreDown.Allow,
    );
    if (!isFinal(row.status)) {
      const by = caller.kind === 'owner' ? CancelledBy.Owner : CancelledBy.Guest;
      await this.cancellation.cancel(row.chat_session_id, row.id, by);
    }
    return toReplyDto(await this.find(caller, id));
  }

  /**
   * Asks again for what a final reply answered, or should have.
   *
   * @throws AppError not_found, rate_limited, chatbot_disabled, reply_not_retryable; the idempotency errors
   */
  async retry(
    caller: Principal,
    id: string,
    requestId: string,
    idempotent: IdempotentRequest | null,
  ): Promise<{ reply: ReplyDto; cursor: string; isReplay: boolean }> {
    const found = await this.find(caller, id);
    const { chat_session_id: sessionId, is_enabled: isEnabled } = found;
    await this.limits.take(
      [{ limit: 'actionsPerSession', of: sessionId }],
      chatbotOf(found),
      StoreDown.Refuse,
    );
    const before = await this.publisher.cursor(sessionId);
    const {
      reply: row,
      dispatch,
      cursor,
      isReplay,
    } = await this.posting.retry({ sessionId, isEnabled }, id, requestId, idempotent, before);
    const reply = toReplyDto(row);
    if (!isReplay) {
      await Promise.all([this.publisher.publishQueued(reply), dispatch && this.queue.enqueue(dispatch)]);
    }
    return { reply, cursor, isReplay };
  }

  private async find(caller: Principal, id: string): Promise<FoundReply> {
    const row = await this.database.read((db) =>
      db
        .selectFrom('replies')
        .innerJoin('chat_sessions as s', 's.id', 'replies.chat_session_id')
        .innerJoin('chatbots as c', 'c.id', 's.chatbot_id')
        .selectAll('replies')
        .select([messageId, 'c.is_enabled', 'c.limits', 's.chatbot_id as of_chatbot'])
        .where('replies.id', '=', id)
        .where(isOf(caller))
        .executeTakeFirst(),
    );
    if (!row) throw notFound();
    return row;
  }
}
