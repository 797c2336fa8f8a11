import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database, now } from '../../database/database.js';
import { type Dispatch, toDispatch } from './transitions.js';

/** Which jobs a reply has, as its row notes. */
@Injectable()
export class ReplyDispatching {
  constructor(private readonly database: Database) {}

  /**
   * For a job that came before its time, since the queue's clock is not PostgreSQL's: another one for the rest of
   * the pause. Null where the reply is due, claimed or final, or where a later job was enqueued for it.
   */
  async postpone(replyId: string, dispatchNumber: number): Promise<Dispatch | null> {
    const reply = await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set((eb) => ({
            dispatch_count: eb('dispatch_count', '+', 1),
            dispatched_at: eb.ref('available_at'),
          }))
          .where('id', '=', replyId)
          .where('dispatch_count', '=', dispatchNumber)
          .where('finished_at', 'is', null)
          .where('lease_token', 'is', null)
          .where('available_at', '>', now)
          .returningAll()
          .returning((eb) =>
            sql<number>`ceil(extract(epoch from ${eb.ref('available_at')} - ${now}) * 1000)::int`.as(
              'delay_ms',
            ),
          )
          .executeTakeFirst(),
      { isRepeatable: true },
    );
    return reply ? toDispatch(reply, Math.max(1, reply.delay_ms)) : null;
  }

  /** An operator wants the next attempt now: ends the pause before it, where there is one. */
  async endPause(replyId: string): Promise<void> {
    await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set({ available_at: now, dispatched_at: now })
          .where('id', '=', replyId)
          .where('finished_at', 'is', null)
          .where('lease_token', 'is', null)
          .where('available_at', '>', now)
          .execute(),
      { isRepeatable: true },
    );
  }

  /** The queue did not take the job: the reconciler's next round enqueues it again instead of waiting for a claim. */
  async markUndispatched({ replyId, number }: Pick<Dispatch, 'replyId' | 'number'>): Promise<void> {
    await this.database.write(
      (db) =>
        db
          .updateTable('replies')
          .set({ dispatched_at: null })
          .where('id', '=', replyId)
          .where('dispatch_count', '=', number)
          .where('lease_token', 'is', null)
          .where('finished_at', 'is', null)
          .execute(),
      { isRepeatable: true },
    );
  }
}
