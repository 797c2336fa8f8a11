import { Inject, Injectable } from '@nestjs/common';
import { Database, now } from '../../database/database.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import type { MessageRow } from '../message.dto.js';
import { messageId, type ReplyRow } from '../reply.dto.js';
import { RECONCILE_LIMIT } from './reconciliation.js';
import { timeIn } from './transitions.js';

/** Which of a reply's events were published, as its row notes. */
@Injectable()
export class ReplyPublication {
  constructor(
    private readonly database: Database,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'publishAfterMs'>,
  ) {}

  /** The messages that a reply answers, oldest first. */
  async questionOf(replyId: string): Promise<MessageRow[]> {
    return this.database.read((db) =>
      db
        .selectFrom('messages')
        .selectAll()
        .where('reply_id', '=', replyId)
        .where('sender', '=', 'user')
        .orderBy('sequence')
        .execute(),
    );
  }

  /** The messages that a reply which has completed is instead of, oldest first. */
  async supersededBy(replyId: string): Promise<string[]> {
    const rows = await this.database.read((db) =>
      db
        .selectFrom('messages')
        .select('id')
        .where('superseded_by', '=', replyId)
        .orderBy('sequence')
        .execute(),
    );
    return rows.map(({ id }) => id);
  }

  /** Notes that the end of these replies stands in the event stream. */
  async markPublished(replyIds: readonly string[]): Promise<void> {
    await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set({ announced_at: now })
          .where('id', 'in', replyIds)
          .where('finished_at', 'is not', null)
          .execute(),
      { isRepeatable: true },
    );
  }

  /** Finished replies whose end is not published, oldest first. */
  async findUnpublished(): Promise<{ reply: ReplyRow; message: MessageRow | null }[]> {
    const replies = await this.database.readOnce((db) =>
      db
        .selectFrom('replies')
        .selectAll()
        .select(messageId)
        .where('finished_at', 'is not', null)
        .where('announced_at', 'is', null)
        .where('finished_at', '<', timeIn(-this.timings.publishAfterMs))
        .orderBy('finished_at')
        .limit(RECONCILE_LIMIT)
        .execute(),
    );
    if (replies.length === 0) return [];
    const ids = replies.map((reply) => reply.id);
    const messages = await this.database.readOnce((db) =>
      db.selectFrom('messages').selectAll().where('sender', '=', 'ai').where('reply_id', 'in', ids).execute(),
    );
    return replies.map((reply) => ({
      reply,
      message: messages.find((message) => message.reply_id === reply.id) ?? null,
    }));
  }
}
