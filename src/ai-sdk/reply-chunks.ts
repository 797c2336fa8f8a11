import type { Frame } from '../session-events/session-events.service.js';
import { EventType } from '../events/event-stream.js';
import type { MessageDto } from '../conversations/message.dto.js';
import { isFinal, type ReplyDelay, type ReplyDto } from '../conversations/reply.dto.js';
import { ReplyFinishReason, ReplyStatus } from '../conversations/reply-status.js';
import type { SnapshotReplyDto } from '../session-events/session-event.dto.js';
import type { UiMessageMetadataDto } from './ui-message.dto.js';

/** One chunk of the AI SDK's UI message stream v1. */
export type Chunk = { type: string } & Record<string, unknown>;

/** As the SDK has them; what was said because the budget is spent has no word of its own there. */
const FINISH_REASONS: Record<ReplyFinishReason, string> = {
  [ReplyFinishReason.Stop]: 'stop',
  [ReplyFinishReason.Length]: 'length',
  [ReplyFinishReason.ContentFilter]: 'content-filter',
  [ReplyFinishReason.Cancelled]: 'other',
  [ReplyFinishReason.Budget]: 'other',
};

const BEGUN_ANEW = 'The answer was interrupted, and is being made again.';
const DELETED = 'This conversation was deleted.';

interface Told {
  replyId?: string;
  attempt?: number;
  offset?: number;
  text?: string;
  reason?: string;
  retryAt?: string | null;
  reply?: ReplyDto;
  message?: MessageDto | null;
  messages?: MessageDto[];
  replies?: SnapshotReplyDto[];
}

/**
 * Tells one reply as chunks of a UI message, from its start, out of a session's events. It may be given any events of the
 * session, a snapshot at any time, and what it has told already.
 */
export class ReplyChunks {
  private shown: { attempt: number; text: string; partId: string } | null = null;
  private isOver = false;

  /** @param canReset whether the client can take back the text of an attempt that another one replaces */
  constructor(
    private reply: ReplyDto,
    private readonly canReset: boolean,
  ) {}

  /** Whether the last chunk has been told. */
  get isDone(): boolean {
    return this.isOver;
  }

  begin(): Chunk[] {
    return [
      { type: 'start', messageId: this.reply.id, messageMetadata: this.metadata() },
      this.state(this.reply.status, this.reply.attempt),
    ];
  }

  /** What an event tells of the reply. */
  next({ event, data }: Frame): Chunk[] {
    if (this.isOver || event === undefined) return [];
    const told = JSON.parse(data ?? '{}') as Told;
    if (event === EventType.SessionDeleted) return this.deleted();
    if (event === EventType.SessionSnapshot) return this.fromSnapshot(told);
    if ((told.replyId ?? told.reply?.id) !== this.reply.id) return [];
    const { attempt = 0 } = told;
    switch (event) {
      case EventType.ReplyStarted:
        return [this.state(ReplyStatus.InProgress, attempt), ...this.show(attempt, '')];
      case EventType.ReplyDelta:
        return this.append(attempt, told.offset ?? 0, told.text ?? '');
      case EventType.ReplyRetrying:
        return [
          this.state(ReplyStatus.InProgress, attempt, {
            reason: told.reason ?? '',
            retryAt: told.retryAt ?? null,
          }),
        ];
      case EventType.ReplyCompleted:
      case EventType.ReplyCancelled:
      case EventType.ReplyFailed:
        return this.end(told.reply!, told.message ?? null);
      default:
        return [];
    }
  }

  /** The session is gone. */
  deleted(): Chunk[] {
    return this.isOver ? [] : this.fail(DELETED);
  }

  /** What is left to tell of a reply that is final. */
  end(reply: ReplyDto, message: MessageDto | null): Chunk[] {
    this.reply = reply;
    const chunks = [this.state(reply.status, reply.attempt)];
    if (reply.status === ReplyStatus.Failed) {
      return [...chunks, ...this.fail(reply.error?.detail ?? BEGUN_ANEW)];
    }
    if (message !== null) chunks.push(...this.show(reply.attempt, message.content));
    if (this.isOver) return chunks;
    this.isOver = true;
    if (this.shown) chunks.push({ type: 'text-end', id: this.shown.partId }, { type: 'finish-step' });
    return reply.status === ReplyStatus.Cancelled
      ? [...chunks, { type: 'abort', reason: 'cancelled' }]
      : [
          ...chunks,
          {
            type: 'finish',
            finishReason: FINISH_REASONS[reply.finishReason ?? ReplyFinishReason.Stop],
            messageMetadata: this.metadata(),
          },
        ];
  }

  private fromSnapshot({ replies = [], messages = [] }: Told): Chunk[] {
    const reply = replies.find(({ id }) => id === this.reply.id);
    if (!reply) return [];
    if (isFinal(reply.status)) {
      return this.end(reply, messages.find(({ id }) => id === reply.messageId) ?? null);
    }
    if (reply.status === ReplyStatus.Queued) return [];
    return [
      this.state(reply.status, reply.attempt, reply.delay ?? null),
      ...this.show(reply.attempt, reply.text ?? ''),
    ];
  }

  /** A piece of an attempt's text, of which some may have been told. */
  private append(attempt: number, offset: number, text: string): Chunk[] {
    if (this.shown?.attempt !== attempt) return offset === 0 ? this.show(attempt, text) : [];
    const known = this.shown.text.length - offset;
    return known < 0 || known >= text.length ? [] : [this.tell(text.slice(known))];
  }

  /** @param text all of the attempt's so far */
  private show(attempt: number, text: string): Chunk[] {
    const chunks: Chunk[] = [];
    if (this.shown === null) {
      chunks.push({ type: 'start-step' }, ...this.beginText(attempt));
    } else if (attempt > this.shown.attempt && this.shown.text === '') {
      this.shown.attempt = attempt; // nothing to take back
    } else if (attempt > this.shown.attempt) {
      if (!this.canReset) return this.fail(BEGUN_ANEW);
      chunks.push({ type: 'reset-step' }, ...this.beginText(attempt));
    }
    const isNewer = attempt === this.shown!.attempt && text.length > this.shown!.text.length;
    return isNewer ? [...chunks, this.tell(text.slice(this.shown!.text.length))] : chunks;
  }

  private beginText(attempt: number): Chunk[] {
    this.shown = { attempt, text: '', partId: `${this.reply.id}:${attempt}` };
    return [{ type: 'text-start', id: this.shown.partId }];
  }

  private tell(delta: string): Chunk {
    const shown = this.shown!;
    shown.text += delta;
    return { type: 'text-delta', id: shown.partId, delta };
  }

  private fail(errorText: string): Chunk[] {
    this.isOver = true;
    return [{ type: 'error', errorText }];
  }

  /** A part of the message that the next of its kind replaces. */
  private state(status: ReplyStatus, attempt: number, delay: ReplyDelay | null = null): Chunk {
    return { type: 'data-reply', id: this.reply.id, data: { status, attempt, delay } };
  }

  private metadata(): UiMessageMetadataDto {
    const { id: replyId, status, createdAt, usage } = this.reply;
    return { createdAt, replyId, status, usage };
  }
}
