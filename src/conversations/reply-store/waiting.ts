import { Inject, Injectable } from '@nestjs/common';
import { type RawBuilder, sql } from 'kysely';
import { CONFIG } from '../../config/config.module.js';
import { attemptBudget, type Config } from '../../config/env.js';
import { Database, runOn } from '../../database/database.js';
import type { Row } from '../../database/tables.js';
import { type Dispatch, toDispatch } from './transitions.js';

/** How many chatbots with waiting replies are looked at: beginning with that of the job, so that in time each is. */
const MAX_CHATBOTS = 1_000;
/** How many replies of one chatbot: other workers may be about to claim the first. */
const REPLIES_OF_CHATBOT = 8;
const MAX_FOUND = 24;

/** Whom a reply counts for. */
export interface Shareholder {
  chatbotId: string;
  ownerId: string;
}

/** A reply that may be claimed. */
export interface WaitingReply extends Shareholder {
  replyId: string;
}

/** The reply that a job is of. */
interface Own {
  replyId: string | null;
  chatbotId: string | null;
}
const NOBODY: Own = { replyId: null, chatbotId: null };

/** What is not to be looked for. */
export interface PassedOver {
  chatbots: readonly string[];
  owners: readonly string[];
  replies: readonly string[];
}

type Nullable<T> = { [Column in keyof T]: T[Column] | null };
const isRow = (row: Nullable<Row<'replies'>>): row is Row<'replies'> => row.id !== null;

/** Whose turn it is, by the rows: a job only says that some reply waits. */
@Injectable()
export class ReplyWaiting {
  private readonly attemptBudget: number;

  constructor(
    private readonly database: Database,
    @Inject(CONFIG) config: Pick<Config, 'REPLY_ATTEMPTS' | 'OPENAI_FALLBACK_MODEL'>,
  ) {
    this.attemptBudget = attemptBudget(config);
  }

  /** @returns null where there is no such chatbot */
  async ownerOf(chatbotId: string): Promise<string | null> {
    const chatbot = await this.database.read((db) =>
      db.selectFrom('chatbots').select('clerk_user_id').where('id', '=', chatbotId).executeTakeFirst(),
    );
    return chatbot?.clerk_user_id ?? null;
  }

  /**
   * @param own the reply that the job is of, and its chatbot: it goes before others with the same right
   * @returns replies that are due and that nobody has claimed: first those of the owner, then of the chatbot, with the
   *   fewest that are being made, by all workers
   */
  async find(own: Own, passedOver: PassedOver): Promise<WaitingReply[]> {
    return this.database.readOnce((db) =>
      runOn(db, sql<WaitingReply>`${this.waiting(own, passedOver)} limit ${MAX_FOUND}`),
    );
  }

  /**
   * Notes another job for the reply whose turn it is, to be enqueued.
   *
   * @returns `isWaiting`: whether any waits; `next`: null also where another job claimed it in this instant, and then others
   *   may wait still
   */
  async dispatchNext(passedOver: PassedOver): Promise<{ isWaiting: boolean; next: Dispatch | null }> {
    const [first] = await this.database.write((db) =>
      runOn(
        db,
        sql<Nullable<Row<'replies'>>>`
          with first as (${this.waiting(NOBODY, passedOver)} limit 1),
          dispatched as (
            update replies set dispatch_count = dispatch_count + 1, dispatched_at = clock_timestamp()
            where id = (select "replyId" from first) and lease_token is null and finished_at is null
            returning *
          )
          select dispatched.* from first left join dispatched on true`,
      ),
    );
    return { isWaiting: first !== undefined, next: first && isRow(first) ? toDispatch(first, 0) : null };
  }

  /** The chatbots are found by leaping from one to the next in the index, round it, however many replies of each there are. */
  private waiting(
    { replyId, chatbotId }: Own,
    { chatbots, owners, replies }: PassedOver,
  ): RawBuilder<unknown> {
    const lowest = sql`(select chatbot_id from replies where not is_counted and chatbot_id is not null
      order by chatbot_id limit 1)`;
    const from = sql`(select chatbot_id from replies where not is_counted and chatbot_id >= ${chatbotId}::uuid
      order by chatbot_id limit 1)`;
    return sql`
      with recursive others as (
        select coalesce(${from}, ${lowest}) as chatbot_id, coalesce(${from}, ${lowest}) as first, 1 as n
        union all
        select next.chatbot_id, others.first, others.n + 1
        from others cross join lateral (
          select coalesce(
            (select chatbot_id from replies where not is_counted and chatbot_id > others.chatbot_id
              order by chatbot_id limit 1),
            ${lowest}) as chatbot_id) as next
        where others.n < ${MAX_CHATBOTS} and next.chatbot_id <> others.first
      ),
      running as (
        select r.chatbot_id, count(*) as n from replies r
        where r.status = 'in_progress' and r.lease_token is not null group by r.chatbot_id
      ),
      running_of_owners as (
        select c.clerk_user_id, sum(running.n) as n
        from running join chatbots c on c.id = running.chatbot_id group by c.clerk_user_id
      )
      select waiting.id as "replyId", c.id as "chatbotId", c.clerk_user_id as "ownerId"
      from others join chatbots c on c.id = others.chatbot_id
      cross join lateral (
        select id, available_at from replies
        where chatbot_id = c.id and not is_counted and finished_at is null and lease_token is null
          and cancel_requested_at is null and available_at <= clock_timestamp() and deadline_at > clock_timestamp()
          and failures < ${this.attemptBudget} and id <> all(${replies}::uuid[])
        order by id is not distinct from ${replyId}::uuid desc, available_at limit ${REPLIES_OF_CHATBOT}
      ) as waiting
      left join running on running.chatbot_id = c.id
      left join running_of_owners o on o.clerk_user_id = c.clerk_user_id
      where c.id <> all(${chatbots}::uuid[]) and c.clerk_user_id <> all(${owners}::text[])
      order by coalesce(o.n, 0), coalesce(running.n, 0), waiting.id is not distinct from ${replyId}::uuid desc,
        waiting.available_at`;
  }
}
