import { Inject, Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database } from '../../database/database.js';
import { type Timings, TIMINGS } from '../../runtime/timings.js';
import { messageColumns, type MessageRow } from '../message.dto.js';
import { replyColumns, type ReplyRow } from '../reply.dto.js';
import { RECONCILE_LIMIT } from './reconciliation.js';
import { milliseconds } from './transitions.js';

/** What a row knows of its events. */
@Injectable()
export class ReplyPublication {
  constructor(
    private readonly database: Database,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'publishAfterMs'>,
  ) {}

  /** The messages that a reply answers, oldest first. */
  async questionOf(replyId: string): Promise<MessageRow[]> {
    return this.database.runSafely(
      sql<MessageRow>`
        select ${messageColumns} from messages where reply_id = ${replyId} and sender = 'user' order by sequence`,
    );
  }

  /** Notes that the end of these replies stands in the event stream. */
  async markPublished(replyId: string): Promise<void> {
    await this.database.runSafely(
      sql`update replies set announced_at = clock_timestamp() where id = ${replyId} and finished_at is not null`,
    );
  }

  /** Finished replies whose end nobody has told, oldest first. */
  async findUnpublished(): Promise<{ reply: ReplyRow; message: MessageRow | null }[]> {
    const replies = await this.database.run(
      sql<ReplyRow>`
        select ${replyColumns} from replies
        where finished_at is not null and announced_at is null
          and finished_at < clock_timestamp() - ${milliseconds(this.timings.publishAfterMs)}
        order by finished_at
        limit ${RECONCILE_LIMIT}`,
    );
    if (replies.length === 0) return [];
    const messages = await this.database.run(
      sql<MessageRow>`
        select ${messageColumns} from messages
        where sender = 'ai' and reply_id in (${sql.join(replies.map((reply) => reply.id))})`,
    );
    return replies.map((reply) => ({
      reply,
      message: messages.find((message) => message.reply_id === reply.id) ?? null,
    }));
  }
}
