import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database } from '../../database/database.js';
import { replyColumns, type ReplyRow } from '../reply.dto.js';
import { type Dispatch, toDispatch } from './transitions.js';

/** What a row knows of its jobs. */
@Injectable()
export class ReplyDispatching {
  constructor(private readonly database: Database) {}

  /**
   * For a job that came before its time, since the queue's clock is not PostgreSQL's: another one for the rest of
   * the pause. Null where the reply is due, claimed or final, or where a later job was rung for it.
   */
  async postpone(replyId: string, dispatchNumber: number): Promise<Dispatch | null> {
    const [row] = await this.database.runSafely(
      sql<ReplyRow & { delay_ms: number }>`
        update replies
        set dispatch_count = dispatch_count + 1, dispatched_at = available_at
        where id = ${replyId} and dispatch_count = ${dispatchNumber} and finished_at is null
          and lease_token is null and available_at > clock_timestamp()
        returning ${replyColumns},
          ceil(extract(epoch from available_at - clock_timestamp()) * 1000)::int as delay_ms`,
    );
    return row ? toDispatch(row, Math.max(1, row.delay_ms)) : null;
  }

  /** An operator wants the next attempt now: ends the pause before it, where there is one. */
  async endPause(replyId: string): Promise<void> {
    await this.database.runSafely(sql`
      update replies set available_at = clock_timestamp(), dispatched_at = clock_timestamp()
      where id = ${replyId} and finished_at is null and lease_token is null
        and available_at > clock_timestamp()`);
  }

  /** The queue did not take the bell: the next sweep rings again instead of waiting for an answer to it. */
  async markUndispatched({ replyId, number }: Pick<Dispatch, 'replyId' | 'number'>): Promise<void> {
    await this.database.runSafely(sql`
      update replies set dispatched_at = null
      where id = ${replyId} and dispatch_count = ${number} and lease_token is null
        and finished_at is null`);
  }
}
