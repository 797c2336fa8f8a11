import { sql } from 'kysely';
import { type Database, runOn } from '../database/database.js';

/** `pg_try_advisory_xact_lock` key: one process counts at a time, so that no two wait for each other's chatbots. */
const LOCK_KEY = 0x73636e74;
/** How many changes one round counts; the next takes the next. */
const CHANGES_OF_ROUND = 5_000;

/** Counts sessions that were opened and erased since the last time into the rows of their chatbots. */
export async function countSessions(database: Database): Promise<void> {
  await database.transaction(async (tx) => {
    const [lock] = await runOn(
      tx,
      sql<{ is_ours: boolean }>`select pg_try_advisory_xact_lock(${LOCK_KEY}) as is_ours`,
    );
    if (!lock?.is_ours) return;
    await runOn(
      tx,
      sql`
        with counted as (
          delete from session_count_changes
          where id in (select id from session_count_changes order by id limit ${CHANGES_OF_ROUND})
          returning chatbot_id, delta
        ), sums as (select chatbot_id, sum(delta)::int as delta from counted group by chatbot_id)
        update chatbots set session_count = session_count + sums.delta from sums where chatbots.id = sums.chatbot_id`,
    );
  });
}
