import { Injectable, Logger } from '@nestjs/common';
import { EventStream, type ShownText } from '../events/event-stream.js';
import { ReplyEventPublisher } from './reply-event-publisher.js';
import { ReplyCancelling } from './reply-store/cancelling.js';
import { ReplyQueue } from './reply-queue.js';
import type { CancelledBy } from './reply-status.js';
import type { ReplyRow } from './reply.dto.js';

/**
 * Stops a reply, from any process, so that it stays stopped: first the request is noted in its row, then the event
 * stream is sealed, which fixes the text that was shown and refuses any more, then one transition makes that text
 * the AI message. Its worker stops at the event that is published then, or else at its next heartbeat;
 * whether it does, or has died, changes nothing. After a crash in between the reconciler does the rest.
 */
@Injectable()
export class ReplyCancellation {
  private readonly logger = new Logger(ReplyCancellation.name);

  constructor(
    private readonly replies: ReplyCancelling,
    private readonly stream: EventStream,
    private readonly publisher: ReplyEventPublisher,
    private readonly queue: ReplyQueue,
  ) {}

  /**
   * Resolves when the reply is final, by this or before.
   *
   * @param by who asks; null: the reconciler, for somebody who asked before
   */
  async cancel(sessionId: string, replyId: string, by: CancelledBy | null): Promise<void> {
    const reply = await this.replies.requestCancel(replyId, by);
    if (!reply) return;
    const sealed = await this.seal(reply);
    const finished = await this.replies.cancel(
      sessionId,
      replyId,
      textSoFar(reply, sealed?.shown ?? null),
      sealed !== null,
    );
    if (!finished) return;
    await Promise.all([
      this.publisher.publishFinished(finished.reply, finished.message),
      this.queue.enqueueNext(finished.next),
    ]);
  }

  /** What was shown, if anything; null where the stream does not answer. */
  private async seal(reply: ReplyRow): Promise<{ shown: ShownText | null } | null> {
    try {
      return { shown: await this.stream.seal(reply.chat_session_id, reply.id) };
    } catch (error) {
      this.logger.warn(
        { event: 'reply.seal_failed', err: error, replyId: reply.id, sessionId: reply.chat_session_id },
        'the event stream did not seal a cancelled reply: its message is made from the last checkpoint',
      );
      return null;
    }
  }
}

/**
 * What was shown of a reply, as far as is known: the stream's text; or the checkpoint, where the stream was lost or
 * has nothing of the attempt that wrote the checkpoint. Null where that is empty.
 */
function textSoFar(reply: ReplyRow, shown: ShownText | null): string | null {
  const kept = reply.partial_text ?? '';
  const isOfThisAttempt = shown?.attempt === reply.attempt;
  const text =
    shown && (kept === '' || (isOfThisAttempt && shown.text.length >= kept.length)) ? shown.text : kept;
  return text.trim() === '' ? null : text;
}
