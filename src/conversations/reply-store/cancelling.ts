import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database, now } from '../../database/database.js';
import { tokensAtMost } from '../../llm/tokens-at-most.js';
import { type CancelledBy, ReplyFinishReason, ReplyStatus } from '../reply-status.js';
import { messageId, type ReplyRow } from '../reply.dto.js';
import { type Finished, ReplyTransitions } from './transitions.js';

/** The two steps of a cancel; reply-cancellation.ts does what stands between them. */
@Injectable()
export class ReplyCancelling {
  constructor(
    private readonly database: Database,
    private readonly transitions: ReplyTransitions,
  ) {}

  /**
   * Notes that an unfinished reply is to be cancelled. From here on no worker claims it, its worker stops at the next
   * heartbeat at the latest, and the reconciler cancels it if the caller dies first.
   *
   * @param by who asks; null: the reconciler, for somebody who asked before
   * @returns the reply, whose checkpoint is the text that is known to the rows; null where it is final or gone
   */
  async requestCancel(replyId: string, by: CancelledBy | null): Promise<ReplyRow | null> {
    const reply = await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set((eb) => ({
            cancel_requested_at: eb.fn.coalesce('cancel_requested_at', now),
            cancelled_by: eb.fn.coalesce('cancelled_by', eb.val(by)),
          }))
          .where('id', '=', replyId)
          .where('finished_at', 'is', null)
          .returningAll()
          .returning(messageId)
          .executeTakeFirst(),
      { isRepeatable: true },
    );
    return reply ?? null;
  }

  /**
   * Cancels a reply, whoever holds it. The count of its output is an upper bound, marked as estimated: it is mostly
   * an api that cancels, which has no tokenizer.
   *
   * @param text becomes the AI message; null: there is none
   * @param isSealed whether that is all that was and will be shown. Otherwise more may have been; the text counts as
   *   an attempt of its own then, so that subscribers drop what they hold and get it whole
   * @returns null where it is final already
   */
  async cancel(
    sessionId: string,
    replyId: string,
    text: string | null,
    isSealed = true,
  ): Promise<Finished | null> {
    return this.transitions.finish(sessionId, replyId, text, (tx) =>
      tx
        .updateTable('replies')
        .set((eb) => ({
          status: ReplyStatus.Cancelled,
          finish_reason: ReplyFinishReason.Cancelled,
          finished_at: now,
          attempt: isSealed
            ? eb.ref('attempt')
            : eb('attempt', '+', sql<number>`case when ${eb('attempt', '>', 0)} then 1 else 0 end`),
          lease_token: null,
          lease_until: null,
          partial_text: null,
          is_usage_estimated: eb('input_tokens', 'is not', null).$castTo<boolean>(),
          output_tokens: eb
            .case()
            .when('input_tokens', 'is not', null)
            .then(eb.cast<number>(eb.val(text === null ? 0 : tokensAtMost(text)), 'integer'))
            .end(),
        }))
        .where('id', '=', replyId)
        .where('finished_at', 'is', null)
        .returningAll()
        .returning(messageId)
        .executeTakeFirst(),
    );
  }
}
