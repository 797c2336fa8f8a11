import { Inject, Injectable, Logger } from '@nestjs/common';
import { type Expression, type ExpressionBuilder, sql, type SqlBool } from 'kysely';
import { type IdempotentRequest, once } from '../database/idempotency.js';
import { AppError, notFound } from '../runtime/app-error.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { within } from '../runtime/within.js';
import { Database, runOn } from '../database/database.js';
import type { Tables, Tx } from '../database/tables.js';
import { EventStream } from '../events/event-stream.js';
import { ReplyQueue } from './reply-queue.js';
import { ReplyUsage } from './reply-store/usage.js';

/** How many sessions' traces one round removes; the reconciler starts the next round. */
const ROUND_LIMIT = 100;
/** How many guests, or sessions whose time is over, one transaction erases. */
const GUESTS_OF_ROUND = 100;
const SESSIONS_OF_ROUND = 100;
/** How long one round of the reconciler erases, in milliseconds: what else it has to do is not to wait for more. */
const ERASING_MS = 1_000;
/** How long a request waits for the traces to go; the rows are gone by then in any case. */
const PATIENCE_MS = 2_000;

/** Who is erased: by an address, whatever its case, or by the owner's own id. */
export type Person = { email: string } | { chatbotId: string; externalId: string };

interface GuestTables {
  g: Tables['guests'];
  c: Tables['chatbots'];
}

/**
 * Deletes conversations everywhere. The rows go in one transaction, which also notes the sessions whose traces in
 * the queue and the event stream have to go; those follow at once, or after a crash by the reconciler.
 */
@Injectable()
export class ErasureService {
  private readonly logger = new Logger(ErasureService.name);

  constructor(
    private readonly database: Database,
    private readonly queue: ReplyQueue,
    private readonly stream: EventStream,
    private readonly usage: ReplyUsage,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'idempotencyWaitMs'>,
  ) {}

  /**
   * Erases all that an owner has: at once as much as there is time for, the rest by the reconciler.
   *
   * @param request a repetition of it changes nothing
   */
  async deleteOwner(clerkUserId: string, request: IdempotentRequest): Promise<void> {
    const { isReplay } = await this.database.transaction((tx) =>
      once(tx, request, this.timings.idempotencyWaitMs, async () => {
        await tx
          .insertInto('owner_erasures')
          .values({ clerk_user_id: clerkUserId })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        return {}; // who it was would stay with the key for a day
      }),
    );
    if (isReplay) return;
    await within(PATIENCE_MS, this.continueWithOwners()).catch((error: unknown) =>
      this.logger.warn(
        { event: 'erasure.owner_unfinished', err: error },
        'what an owner has who is gone could not all be erased at once: the reconciler goes on with it',
      ),
    );
  }

  /** Goes on with the owners who are gone: a chatbot after the other, and of each some sessions at a time. */
  async continueWithOwners(): Promise<void> {
    const owners = await this.database.readOnce((db) =>
      db
        .selectFrom('owner_erasures')
        .select('clerk_user_id')
        .orderBy('created_at')
        .limit(ROUND_LIMIT)
        .execute(),
    );
    const end = performance.now() + ERASING_MS;
    for (const { clerk_user_id: owner } of owners) {
      const chatbots = await this.database.readOnce((db) =>
        db
          .selectFrom('chatbots')
          .select('id')
          .where('clerk_user_id', '=', owner)
          .limit(ROUND_LIMIT)
          .execute(),
      );
      for (const { id } of chatbots) {
        if (!(await this.deleteAllOf(owner, id, end))) return;
      }
      await this.database.write((db) =>
        db
          .deleteFrom('owner_erasures')
          .where('clerk_user_id', '=', owner)
          .where((eb) =>
            eb.not(eb.exists(eb.selectFrom('chatbots').select('id').where('clerk_user_id', '=', owner))),
          )
          .execute(),
      );
    }
  }

  /** @param end when to leave the rest for the next round, by `performance.now()` @returns whether nothing is left */
  private async deleteAllOf(clerkUserId: string, chatbotId: string, end: number): Promise<boolean> {
    for (;;) {
      if (performance.now() > end) return false;
      let count = 0;
      await this.erase(async (tx) => {
        const sessions = await tx
          .selectFrom('chat_sessions')
          .select('id')
          .where('chatbot_id', '=', chatbotId)
          .limit(SESSIONS_OF_ROUND)
          .execute();
        const ids = sessions.map(({ id }) => id);
        if (ids.length > 0) count = await this.deleteSessions(tx, 'id', ids);
      });
      if (count < SESSIONS_OF_ROUND) break;
    }
    await this.deleteChatbot(clerkUserId, chatbotId).catch((error: unknown) => {
      if (!(error instanceof AppError && error.code === 'not_found')) throw error; // somebody else was faster
    });
    return true;
  }

  async deleteChatbot(clerkUserId: string, id: string): Promise<void> {
    await this.erase(async (tx) => {
      const chatbot = await tx
        .selectFrom('chatbots')
        .select('id')
        .where('id', '=', id)
        .where('clerk_user_id', '=', clerkUserId)
        .forUpdate()
        .executeTakeFirst();
      if (!chatbot) throw notFound();
      await this.deleteSessions(tx, 'chatbot_id', [id]);
      await tx.deleteFrom('chatbots').where('id', '=', id).execute();
    });
  }

  async deleteSession(clerkUserId: string, id: string): Promise<void> {
    await this.erase(async (tx) => {
      const session = await tx
        .selectFrom('chat_sessions as s')
        .innerJoin('chatbots as c', 'c.id', 's.chatbot_id')
        .select('s.id')
        .where('s.id', '=', id)
        .where('c.clerk_user_id', '=', clerkUserId)
        .forUpdate('s')
        .executeTakeFirst();
      if (!session) throw notFound();
      await this.deleteSessions(tx, 'id', [id]);
    });
  }

  async deleteGuest(clerkUserId: string, id: string): Promise<void> {
    const { guests } = await this.deleteGuests(clerkUserId, (eb) => eb('g.id', '=', id));
    if (guests === 0) throw notFound();
  }

  /**
   * Erases a person: every guest of the owner's chatbots with that address, or whom the owner knows by that id.
   *
   * @returns how many guests and sessions are gone
   */
  async deletePerson(clerkUserId: string, person: Person): Promise<{ guests: number; sessions: number }> {
    return this.deleteGuests(clerkUserId, (eb) =>
      'email' in person
        ? eb(eb.fn<string>('lower', ['g.email']), '=', eb.fn<string>('lower', [eb.val(person.email)]))
        : eb.and([eb('g.chatbot_id', '=', person.chatbotId), eb('g.external_id', '=', person.externalId)]),
    );
  }

  /** In rounds, since a person may have come back thousands of times, each time as a guest that nobody knew. */
  private async deleteGuests(
    clerkUserId: string,
    where: (eb: ExpressionBuilder<GuestTables, 'g' | 'c'>) => Expression<SqlBool>,
  ): Promise<{ guests: number; sessions: number }> {
    const gone = { guests: 0, sessions: 0 };
    for (;;) {
      let found = 0;
      await this.erase(async (tx) => {
        const guests = await tx
          .selectFrom('guests as g')
          .innerJoin('chatbots as c', 'c.id', 'g.chatbot_id')
          .select('g.id')
          .where('c.clerk_user_id', '=', clerkUserId)
          .where(where)
          .orderBy('g.id')
          .limit(GUESTS_OF_ROUND)
          .forUpdate('g')
          .execute();
        found = guests.length;
        const ids = guests.map(({ id }) => id);
        if (found > 0) gone.sessions += await this.deleteSessions(tx, 'guest_id', ids);
        if (found > 0) await tx.deleteFrom('guests').where('id', 'in', ids).execute();
      });
      gone.guests += found;
      if (found < GUESTS_OF_ROUND) return gone;
    }
  }

  /**
   * Erases sessions whose time is over, for a while: the next round goes on.
   *
   * @param maxDays the operator's; null: for ever, but for chatbots whose owner says otherwise
   */
  async deleteExpired(maxDays: number | null): Promise<void> {
    const end = performance.now() + ERASING_MS;
    let count = 0;
    let found: number;
    do {
      found = await this.deleteSomeExpired(maxDays);
      count += found;
    } while (found === SESSIONS_OF_ROUND && performance.now() < end);
    if (count === 0) return;
    this.logger.log(
      { event: 'erasure.expired', count },
      'sessions were erased that had no activity for too long',
    );
  }

  /** @returns how many */
  private async deleteSomeExpired(maxDays: number | null): Promise<number> {
    const expired = await this.database.readOnce((db) =>
      runOn(
        db,
        sql<{ id: string }>`
          select s.id from chatbots c cross join lateral (
            select id from chat_sessions
            where chatbot_id = c.id and active_at < clock_timestamp() - least(c.retention_days, ${maxDays}::int) * interval '1 day'
            order by active_at limit ${SESSIONS_OF_ROUND}) as s
          where c.retention_days is not null or ${maxDays !== null}
          limit ${SESSIONS_OF_ROUND}`,
      ),
    );
    if (expired.length === 0) return 0;
    const ids = expired.map(({ id }) => id);
    let count = 0;
    await this.erase(async (tx) => {
      count = await this.deleteSessions(tx, 'id', ids);
    });
    return count;
  }

  /** Deletes sessions, their messages and replies, and the guests who have no other session. @returns how many sessions */
  private async deleteSessions(
    tx: Tx,
    column: 'id' | 'chatbot_id' | 'guest_id',
    values: string[],
  ): Promise<number> {
    const sessions = await tx
      .selectFrom('chat_sessions')
      .select('id')
      .where(column, 'in', values)
      .orderBy('id')
      .forUpdate()
      .execute();
    // What a chatbot used stays known when the conversations go, and goes with the chatbot.
    if (column !== 'chatbot_id')
      await this.usage.countSessions(
        tx,
        sessions.map(({ id }) => id),
      );
    await tx
      .insertInto('erasures')
      .columns(['session_id', 'dispatch_counts'])
      .expression((sessions) =>
        sessions
          .selectFrom('chat_sessions as s')
          .where(`s.${column}`, 'in', values)
          .select((eb) => [
            's.id',
            eb.fn
              .coalesce(
                eb
                  .selectFrom('replies as r')
                  .whereRef('r.chat_session_id', '=', 's.id')
                  // Jobs of replies that ended long ago have expired in the queue by themselves.
                  .where((eb) =>
                    eb.or([
                      eb('r.finished_at', 'is', null),
                      eb('r.finished_at', '>', sql<string>`clock_timestamp() - interval '25 hours'`),
                    ]),
                  )
                  .select((eb) =>
                    eb.fn
                      .agg<Record<string, number>>('jsonb_object_agg', ['r.id', 'r.dispatch_count'])
                      .as('counts'),
                  ),
                sql<Record<string, number>>`'{}'::jsonb`,
              )
              .as('dispatch_counts'),
          ]),
      )
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    const deleted = await tx
      .deleteFrom('chat_sessions')
      .where(column, 'in', values)
      .returning('guest_id')
      .execute();
    const guestIds = deleted.map(({ guest_id }) => guest_id).filter((id) => id !== null);
    if (guestIds.length === 0) return deleted.length;
    await tx
      .deleteFrom('guests as g')
      .where('g.id', '=', (eb) => eb.fn.any(sql<string[]>`${guestIds}::uuid[]`))
      .where((eb) =>
        eb.not(
          eb.exists(eb.selectFrom('chat_sessions as s').select('s.id').whereRef('s.guest_id', '=', 'g.id')),
        ),
      )
      .execute();
    return deleted.length;
  }

  private async erase(deleteRows: (tx: Tx) => Promise<void>): Promise<void> {
    await this.database.transaction(deleteRows);
    await within(PATIENCE_MS, this.removeTraces()).catch((error: unknown) =>
      this.logger.warn(
        { event: 'erasure.unfinished', err: error },
        'a deletion failed or timed out after its rows were gone: the reconciler removes what is left in the queue and the event stream',
      ),
    );
  }

  /** Removes what is left of deleted sessions in the queue and the event stream. */
  async removeTraces(): Promise<void> {
    const erasures = await this.database.readOnce((db) =>
      db
        .selectFrom('erasures')
        .select(['session_id', 'dispatch_counts'])
        .orderBy('created_at')
        .limit(ROUND_LIMIT)
        .execute(),
    );
    for (const { session_id, dispatch_counts } of erasures) {
      await this.stream.erase(session_id);
      let isGone = true;
      for (const [replyId, count] of Object.entries(dispatch_counts)) {
        isGone = (await this.queue.removeJobsOf(replyId, count)) && isGone;
      }
      // A job that is being worked on ends soon, since its reply is gone; the reconciler removes it in a later round.
      if (isGone) {
        await this.database.write((db) =>
          db.deleteFrom('erasures').where('session_id', '=', session_id).execute(),
        );
      }
    }
  }
}
