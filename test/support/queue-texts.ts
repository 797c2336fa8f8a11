import type { TestDatabase } from './database.js';
import { TestRedis } from './test-redis.js';

/** Every row of BullMQ's tables, as text. */
export async function bullmqTables({ query }: Pick<TestDatabase, 'query'>): Promise<string[]> {
  const tables = await query<{ name: string }>(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
     where table_schema = 'bullmq' and table_type = 'BASE TABLE'`,
  );
  const texts: string[] = [];
  for (const { name } of tables) {
    const rows = await query<{ text: string }>(`select t::text as text from ${name} t`);
    texts.push(...rows.map(({ text }) => text));
  }
  return texts;
}

/** Keys and values but those of the event stream, each also as Redis would store it. */
export async function redisKeysButEvents(prefix: string): Promise<string[]> {
  const redis = await TestRedis.connect();
  const { any } = redis;
  const texts: string[] = [];
  for (const key of await redis.keysOf(prefix)) {
    if (key.startsWith(`${prefix}:{`)) continue; // the event stream's
    texts.push(key, ((await any.dumpBuffer(key)) ?? Buffer.alloc(0)).toString('latin1'));
    texts.push(JSON.stringify(await redis.valueOf(key)));
  }
  redis.disconnect();
  return texts;
}
