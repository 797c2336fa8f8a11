import { Injectable, Logger } from '@nestjs/common';
import type { SqlEntityManager } from '@mikro-orm/postgresql';
import { sql, type RawBuilder } from 'kysely';
import { notFound } from '../runtime/app-error.js';
import { within } from '../runtime/within.js';
import { Database, runOn } from '../database/database.js';
import { EventStream } from '../events/event-stream.js';
import { ReplyQueue } from './reply-queue.js';

/** How many sessions' traces one round removes; the sweeper does the next. */
const ROUND_LIMIT = 100;
/** How long a request waits for the traces to go; the rows are gone by then in any case. */
const PATIENCE_MS = 2_000;

/**
 * Deletes conversations everywhere. The rows go in one transaction, which also notes the sessions whose traces in
 * the queue and the event stream have to go; those follow at once, and again by the sweeper after a crash.
 */
@Injectable()
export class ErasureService {
  private readonly logger = new Logger(ErasureService.name);

  constructor(
    private readonly database: Database,
    private readonly queue: ReplyQueue,
    private readonly stream: EventStream,
  ) {}

  async deleteChatbot(clerkUserId: string, id: string): Promise<void> {
    await this.erase(async (em) => {
      const [chatbot] = await runOn(
        em,
        sql`select 1 from chatbots where id = ${id} and clerk_user_id = ${clerkUserId} for update`,
      );
      if (!chatbot) throw notFound();
      await this.deleteSessions(em, sql`chatbot_id = ${id}`);
      await runOn(em, sql`delete from chatbots where id = ${id}`);
    });
  }

  async deleteSession(clerkUserId: string, id: string): Promise<void> {
    await this.erase(async (em) => {
      const [session] = await runOn(
        em,
        sql`
          select 1 from chat_sessions s join chatbots c on c.id = s.chatbot_id
          where s.id = ${id} and c.clerk_user_id = ${clerkUserId} for update of s`,
      );
      if (!session) throw notFound();
      await this.deleteSessions(em, sql`id = ${id}`);
    });
  }

  /** A guest is the owner's whose sessions it has. */
  async deleteGuest(clerkUserId: string, id: string): Promise<void> {
    await this.erase(async (em) => {
      const [guest] = await runOn(
        em,
        sql`
          select 1 from guests g
          where g.id = ${id} and exists (
            select 1 from chat_sessions s join chatbots c on c.id = s.chatbot_id
            where s.guest_id = g.id and c.clerk_user_id = ${clerkUserId})
          for update of g`,
      );
      if (!guest) throw notFound();
      await this.deleteSessions(em, sql`guest_id = ${id}`);
    });
  }

  /** Deletes sessions, their messages and replies, and the guests who have no other session. */
  private async deleteSessions(em: SqlEntityManager, which: RawBuilder<unknown>): Promise<void> {
    await runOn(em, sql`select 1 from chat_sessions where ${which} order by id for update`);
    // Jobs of replies that ended long ago have expired in the queue by themselves.
    await runOn(
      em,
      sql`
        insert into erasures (session_id, dispatch_counts)
        select chat_sessions.id, coalesce((
          select jsonb_object_agg(r.id, r.dispatch_count) from replies r
          where r.chat_session_id = chat_sessions.id
            and (r.finished_at is null or r.finished_at > clock_timestamp() - interval '25 hours')), '{}')
        from chat_sessions where ${which}
        on conflict do nothing`,
    );
    const guests = await runOn(
      em,
      sql<{ guest_id: string }>`
        delete from chat_sessions where ${which} returning guest_id`,
    );
    const guestIds = guests.map(({ guest_id }) => guest_id).filter((id) => id !== null);
    if (guestIds.length === 0) return;
    await runOn(
      em,
      sql`
        delete from guests g where g.id = any(${guestIds}::uuid[])
          and not exists (select 1 from chat_sessions s where s.guest_id = g.id)`,
    );
  }

  private async erase(deleteRows: (em: SqlEntityManager) => Promise<void>): Promise<void> {
    await this.database.transaction(deleteRows);
    await within(PATIENCE_MS, this.removeTraces()).catch((error: unknown) =>
      this.logger.warn({ err: error }, 'the sweeper finishes an erasure'),
    );
  }

  /** Removes what is left of deleted sessions in the queue and the event stream. */
  async removeTraces(): Promise<void> {
    const erasures = await this.database.run(
      sql<{ session_id: string; dispatch_counts: Record<string, number> }>`
        select session_id, dispatch_counts from erasures order by created_at limit ${ROUND_LIMIT}`,
    );
    for (const { session_id, dispatch_counts } of erasures) {
      await this.stream.erase(session_id);
      let isGone = true;
      for (const [replyId, count] of Object.entries(dispatch_counts)) {
        isGone = (await this.queue.removeJobsOf(replyId, count)) && isGone;
      }
      // A job that is being worked on ends soon, since its reply is gone; the sweeper comes back for it.
      if (isGone) await this.database.run(sql`delete from erasures where session_id = ${session_id}`);
    }
  }
}
