import { sql } from 'kysely';
import { runOn } from '../database/database.js';
import type { Db } from '../database/tables.js';

/** Of characteristics and chatbots: an index of each holds these alone, which are few but for the first start of a version that counts. */
const uncountedCharacteristics = sql`chatbot_characteristics where not is_counted`;
const uncountedInstructions = sql`chatbots where instructions is not null and not is_counted`;

/** Whether there is a text whose tokens no worker has counted yet. */
export async function hasUncountedTexts(db: Db): Promise<boolean> {
  const [row] = await runOn(
    db,
    sql<{ has: boolean }>`select exists (select from ${uncountedCharacteristics})
      or exists (select from ${uncountedInstructions}) as has`,
  );
  return row?.has === true;
}

/** Chatbots that have such texts, at most so many of each kind; one may be named twice. */
export async function chatbotsToCount(db: Db, limit: number): Promise<string[]> {
  const rows = await runOn(
    db,
    sql<{ id: string }>`(select distinct chatbot_id as id from ${uncountedCharacteristics} limit ${limit})
      union all (select id from ${uncountedInstructions} limit ${limit})`,
  );
  return rows.map(({ id }) => id);
}
