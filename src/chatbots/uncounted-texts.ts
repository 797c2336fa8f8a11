import type { Db } from '../database/tables.js';

/** The chatbots that have a text whose tokens no worker has counted yet. */
export async function chatbotsToCount(db: Db, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom('chatbot_characteristics')
    .select('chatbot_id as id')
    .where('is_counted', '=', false)
    .union((eb) =>
      eb
        .selectFrom('chatbots')
        .select('id')
        .where('instructions', 'is not', null)
        .where('is_counted', '=', false),
    )
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}
