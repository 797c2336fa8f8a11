import { Injectable } from '@nestjs/common';
import { type RawBuilder, sql } from 'kysely';
import { Database, runOn } from '../../database/database.js';
import type { Tx } from '../../database/tables.js';
import type { Claim } from './transitions.js';

/** How many replies one round counts: the next round takes the next. */
const COUNT_LIMIT = 1_000;

/** What a call of a model may go ahead with. */
export const Reservation = {
  /** It is counted against the budget until its attempt ends. */
  Reserved: 'reserved',
  /** The budget of the day is spent. */
  Spent: 'spent',
  /** Replies that are being made may take what is left. */
  Wait: 'wait',
  /** The claim does not hold any more. */
  Lost: 'lost',
} as const;
export type Reservation = (typeof Reservation)[keyof typeof Reservation];

/** What a chatbot used on a UTC day with a model; `model` is empty where none was asked. */
export interface UsageOfDay {
  /** As `2026-01-31`. */
  date: string;
  model: string;
  messages: number;
  completed: number;
  failed: number;
  cancelled: number;
  budget: number;
  inputTokens: number;
  outputTokens: number;
}

const SUMS = [
  'messages',
  'completed',
  'failed',
  'cancelled',
  'budget',
  'input_tokens',
  'output_tokens',
] as const;
const columns = sql.raw(SUMS.join(', '));

/**
 * The use of each reply of `from`, in two parts: its messages on the day on which they were posted, its end and its tokens on
 * the day of its end. An unfinished one has the first only.
 */
const usesOf = (from: RawBuilder<unknown>): RawBuilder<unknown> => sql`(
  select chatbot_id, (created_at at time zone 'UTC')::date as day, '' as model, message_count as messages,
    0 as completed, 0 as failed, 0 as cancelled, 0 as budget, 0 as input_tokens, 0 as output_tokens
  from ${from} where message_count > 0
  union all
  select chatbot_id, (finished_at at time zone 'UTC')::date, coalesce(model, ''), 0,
    (status = 'completed' and finish_reason is distinct from 'budget')::int, (status = 'failed')::int, (status = 'cancelled')::int,
    (status = 'completed' and finish_reason = 'budget')::int, coalesce(input_tokens, 0) + spent_input_tokens,
    coalesce(output_tokens, 0) + spent_output_tokens
  from ${from} where finished_at is not null
)`;

/**
 * What chatbots use of models. A reply is counted once, some seconds after its end, by the reconciler or by whoever deletes
 * it: no two replies that end wait for one counter. Until then it is added from its row.
 */
@Injectable()
export class ReplyUsage {
  constructor(private readonly database: Database) {}

  /** Counts replies that have ended. */
  async countEnded(): Promise<void> {
    await this.database.write((db) =>
      runOn(
        db,
        countingOf(sql`
          select id from replies where not is_counted and finished_at is not null
          limit ${COUNT_LIMIT} for update skip locked`),
      ),
    );
  }

  /** Counts what sessions have that are about to be deleted, and that are locked. */
  async countSessions(tx: Tx, sessionIds: readonly string[]): Promise<void> {
    await runOn(
      tx,
      countingOf(sql`
        select id from replies where chat_session_id = any(${sessionIds}::uuid[]) and not is_counted for update`),
    );
  }

  /** @returns what the chatbot used in the last so many UTC days, of days and models with any use */
  async read(chatbotId: string, days: number): Promise<UsageOfDay[]> {
    return this.database.read((db) =>
      runOn(
        db,
        sql<UsageOfDay>`
          select to_char(day, 'YYYY-MM-DD') as date, model,
            ${sql.join(SUMS.map((sum) => sql`sum(${sql.ref(sum)})::float8 as ${sql.ref(camelCase(sum))}`))}
          from (
            select day, model, ${columns} from usage_days where chatbot_id = ${chatbotId}
            union all
            select day, model, ${columns}
            from ${usesOf(sql`(select * from replies where chatbot_id = ${chatbotId} and not is_counted) as uncounted`)}
          ) as uses
          where day > (clock_timestamp() at time zone 'UTC')::date - ${days}::int
          group by day, model order by day, model`,
      ),
    );
  }

  /** Takes from a chatbot's budget of the day what a call may come to, before it is made. */
  async reserve({ replyId, leaseToken }: Claim, tokens: number, budget: number): Promise<Reservation> {
    const [row] = await this.database.write((db) =>
      runOn(
        db,
        sql<{ outcome: Reservation }>`
          select outcome from reserve_tokens(${replyId}, ${leaseToken}, ${tokens}::int, ${budget}::int)`,
      ),
    );
    return row?.outcome ?? Reservation.Lost;
  }
}

const countingOf = (ids: RawBuilder<unknown>): RawBuilder<unknown> => sql`
  with counted as (update replies set is_counted = true where id in (${ids}) returning *)
  insert into usage_days (chatbot_id, day, model, ${columns})
  select chatbot_id, day, model, ${sql.join(SUMS.map((sum) => sql`sum(${sql.ref(sum)})`))}
  from ${usesOf(sql`counted`)} as uses
  where chatbot_id in (select id from chatbots)
  group by chatbot_id, day, model order by chatbot_id, day, model
  on conflict (chatbot_id, day, model) do update set
    ${sql.join(SUMS.map((sum) => sql`${sql.ref(sum)} = usage_days.${sql.ref(sum)} + excluded.${sql.ref(sum)}`))}`;

const camelCase = (name: string): string =>
  name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
