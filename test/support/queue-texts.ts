import { Redis } from 'ioredis';
import type { TestDatabase } from './database.js';

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
  const redis = new Redis(process.env['ASSISTLY_TEST_REDIS_URL'] ?? '');
  const texts: string[] = [];
  for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1000 })) {
    for (const key of keys as string[]) {
      if (key.startsWith(`${prefix}:{`)) continue; // the event stream's
      texts.push(key, ((await redis.dumpBuffer(key)) ?? Buffer.alloc(0)).toString('latin1'));
      const type = await redis.type(key);
      if (type === 'hash') texts.push(JSON.stringify(await redis.hgetall(key)));
      if (type === 'stream') texts.push(JSON.stringify(await redis.xrange(key, '-', '+')));
      if (type === 'zset') texts.push(JSON.stringify(await redis.zrange(key, '0', '-1')));
      if (type === 'list') texts.push(JSON.stringify(await redis.lrange(key, 0, -1)));
    }
  }
  redis.disconnect();
  return texts;
}
