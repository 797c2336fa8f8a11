import { Inject, Injectable, Logger } from '@nestjs/common';
import { Batch } from '../runtime/batch.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { within } from '../runtime/within.js';
import type { FactEntry, StreamEntry } from '../events/event-stream.js';
import { EventStream, formatCursor, UNKNOWN_CURSOR } from '../events/event-stream.js';
import {
  messageCreated,
  replyCancelled,
  replyCompleted,
  replyDelta,
  replyFailed,
  replyQueued,
  replyRetrying,
  replyStarted,
  type Retrying,
} from '../events/entries.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { type MessageDto, type MessageRow, toMessageDto } from './message.dto.js';
import { asQueued, type ReplyDto, type ReplyRow, toReplyDto } from './reply.dto.js';
import { ReplyPublication } from './reply-store/publication.js';
import { ReplyStatus } from './reply-status.js';

/** How often the publishing of an end may find that the stream has changed meanwhile. */
const MAX_ROUNDS = 5;
/** How long published ends are gathered until their rows note it, in milliseconds: long before the reconciler asks. */
const MARK_AFTER_MS = 50;

/**
 * Publishes what is committed to the event stream. Each event may be published by any process, any number of times: a
 * stream that has it already ignores it. So a crash between a commit and its event only delays the event.
 */
@Injectable()
export class ReplyEventPublisher {
  private readonly logger = new Logger(ReplyEventPublisher.name);

  private readonly pacedLogger = new PacedLogger(this.logger);
  /** Replies whose end stands in the stream, and whose rows do not say so yet. */
  private readonly published = new Batch<string>(MARK_AFTER_MS, (replyIds) => this.markPublished(replyIds));

  constructor(
    private readonly stream: EventStream,
    private readonly publication: ReplyPublication,
    shutdown: Shutdown,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'cursorTimeoutMs' | 'publishTimeoutMs'>,
  ) {
    shutdown.register(ShutdownPhase.Close, () => this.published.settle());
  }

  /** Nobody waits for it: an end whose row does not say that it was published is published again, and changes nothing. */
  private async markPublished(replyIds: readonly string[]): Promise<void> {
    await this.publication
      .markPublished(replyIds)
      .catch((error: unknown) =>
        this.pacedLogger.warn(
          { event: 'reply.mark_published_failed', err: error },
          'the rows of replies could not note that their ends were published: the reconciler publishes them again',
        ),
      );
  }

  /** Where the session's stream stands, as clients get it. A stream that does not answer soon fails no request. */
  async cursor(sessionId: string): Promise<string> {
    try {
      return formatCursor(await within(this.timings.cursorTimeoutMs, this.stream.head(sessionId)));
    } catch (error) {
      this.pacedLogger.warn(
        { event: 'event_stream.cursor_failed', err: error, sessionId },
        'the event stream gave no cursor in time: the client gets the unknown cursor, and with it a snapshot',
      );
      return UNKNOWN_CURSOR;
    }
  }

  /** A message was posted, and a reply queued for it or joined. */
  async publishPosted(message: MessageDto, reply: ReplyDto): Promise<void> {
    await this.publishSoon(message.chatSessionId, [messageCreated(message), replyQueued(reply)]);
  }

  async publishQueued(reply: ReplyDto): Promise<void> {
    await this.publishSoon(reply.chatSessionId, [replyQueued(reply)]);
  }

  /**
   * An attempt begins. Publishes the messages and the queueing again, first: the process that stored them may have
   * died, or may not have published them yet, and a reply must not start before it was queued.
   *
   * @returns false where a later attempt or an end is published already: the worker must stop
   */
  async publishStarted(reply: ReplyRow, messages: readonly MessageRow[]): Promise<boolean> {
    return this.attempt(reply.chat_session_id, openingOf(reply, messages));
  }

  /**
   * An attempt is over, and another will come. Where that has started, or the reply has ended, meanwhile, the stream
   * refuses it: nobody waits for it any more.
   */
  async publishRetrying(sessionId: string, retrying: Retrying): Promise<void> {
    await this.publishSoon(sessionId, [replyRetrying(retrying)]);
  }

  /**
   * A reply is final. Publishes first the text that the stream does not have, so that the deltas of the last attempt
   * always make up the message. Where the stream is down, the reconciler publishes it later.
   */
  async publishFinished(row: ReplyRow, messageRow: MessageRow | null): Promise<void> {
    const reply = toReplyDto(row);
    const message = messageRow && toMessageDto(messageRow);
    try {
      const isRetryDone = row.status === ReplyStatus.Completed && row.retry_of_id !== null;
      const end = endOf(reply, message, isRetryDone ? await this.publication.supersededBy(row.id) : []);
      // The messages of one that was cancelled or failed may be unpublished: the stream may have been down when they came.
      let entries: StreamEntry[] =
        row.status === ReplyStatus.Completed ? [end] : [...(await this.beforeEndOf(row)), end];
      for (let round = 1; round <= MAX_ROUNDS; round++) {
        const result = await this.stream.append(reply.chatSessionId, entries);
        if (result.status !== 'behind') {
          this.published.add(reply.id);
          return;
        }
        const text = message?.content ?? '';
        const isOther = result.attempt !== reply.attempt;
        const published = isOther ? 0 : result.length;
        if (published > text.length) {
          // More was shown than was kept: subscribers get the message as it is.
          this.logger.error(
            { event: 'reply.published_text_exceeded', replyId: reply.id, sessionId: reply.chatSessionId },
            'more text of a reply was published than its message holds: the end is published with the message as stored',
          );
          entries = [{ ...end, reply: end.reply && { ...end.reply, length: null } }];
          continue;
        }
        entries = [
          ...(isOther ? await this.beforeEndOf(row) : []),
          replyDelta({
            replyId: reply.id,
            attempt: reply.attempt,
            offset: published,
            text: text.slice(published),
          }),
          end,
        ];
      }
      throw new Error(`the stream changed ${MAX_ROUNDS} times meanwhile`);
    } catch (error) {
      this.pacedLogger.warn(
        { event: 'reply.end_publish_failed', err: error, replyId: reply.id, sessionId: reply.chatSessionId },
        'the end of a reply could not be published: the reconciler publishes it later',
      );
    }
  }

  private async beforeEndOf(reply: ReplyRow): Promise<StreamEntry[]> {
    const messages = await this.publication.questionOf(reply.id);
    return reply.attempt === 0 ? postOf(reply, messages) : openingOf(reply, messages);
  }

  /** For requests, which do not wait for a stream that hangs: the worker that starts the reply publishes it again. */
  private async publishSoon(sessionId: string, entries: StreamEntry[]): Promise<void> {
    await within(this.timings.publishTimeoutMs, this.attempt(sessionId, entries)).catch(() => undefined);
  }

  /** @returns false where the stream refused; true also where it is down, since then nothing is known */
  private async attempt(sessionId: string, entries: StreamEntry[]): Promise<boolean> {
    try {
      return (await this.stream.append(sessionId, entries)).status !== 'refused';
    } catch (error) {
      this.pacedLogger.warn(
        { event: 'reply.event_publish_failed', err: error, sessionId },
        'events of a session could not be published: they are published again when the reply starts or ends',
      );
      return true;
    }
  }
}

/** What was published, or should have been, when the messages were stored. */
function postOf(reply: ReplyRow, messages: readonly MessageRow[]): StreamEntry[] {
  return [
    ...messages.map((message) => messageCreated(toMessageDto(message))),
    replyQueued(asQueued(toReplyDto(reply))),
  ];
}

/** What comes before the text of an attempt, for a stream that may know nothing of its reply. */
export function openingOf(reply: ReplyRow, messages: readonly MessageRow[]): StreamEntry[] {
  return [...postOf(reply, messages), replyStarted({ replyId: reply.id, attempt: reply.attempt })];
}

function endOf(reply: ReplyDto, message: MessageDto | null, superseded: readonly string[]): FactEntry {
  switch (reply.status) {
    case ReplyStatus.Completed:
      if (!message) throw new Error('a completed reply has a message');
      return replyCompleted(reply, message, superseded);
    case ReplyStatus.Cancelled:
      return replyCancelled(reply, message);
    case ReplyStatus.Failed:
      return replyFailed(reply);
    default:
      throw new Error(`a reply that is ${reply.status} has no end to publish`);
  }
}
