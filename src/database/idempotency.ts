import type { SqlEntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { AppError } from '../runtime/app-error.js';
import { isLockTimeout } from './database-errors.js';
import { type Database, runOn } from './database.js';

/**
 * `Idempotency-Key`: the same key, route, caller and body within a day answers with what the first request made.
 *
 * The key is a row of the transaction that it protects: both are there or neither. A second request with the key
 * waits at the row's unique index until the first transaction has ended, and then either finds its result or, where
 * it failed, takes its place. So only successes are kept, and no state has to be cleaned up after a crash.
 */

export const IDEMPOTENCY_LIFETIME_HOURS = 24;

/** How many expired keys one sweep deletes. */
const RECONCILE_LIMIT = 5_000;

/** A request that carries a key. */
export interface IdempotentRequest {
  /** SHA-256 of caller, route and key, hex. */
  id: string;
  /** SHA-256 of the body, hex. */
  bodyHash: string;
}

/** The ids of what a request made: of this one, or of the first with its key. */
interface IdempotentResult<T> {
  result: T;
  isReplay: boolean;
}

/**
 * Does the work once for a key, within the transaction of the EntityManager; without a key it simply does it.
 *
 * @param waitMs how long a repetition waits for the first request
 * @param work makes things, and gives their ids
 * @throws AppError idempotency_key_reused, idempotency_in_progress
 */
export async function once<T extends Record<string, string>>(
  em: SqlEntityManager,
  request: IdempotentRequest | null,
  waitMs: number,
  work: () => Promise<T>,
): Promise<IdempotentResult<T>> {
  if (!request) return { result: await work(), isReplay: false };
  if (await isFirst(em, request, waitMs)) {
    const result = await work();
    await runOn(
      em,
      sql`update idempotency_keys set result = ${JSON.stringify(result)}::jsonb where id = ${request.id}`,
    );
    return { result, isReplay: false };
  }
  const [kept] = await runOn(
    em,
    sql<{ body_hash: string; result: T }>`
      select body_hash, result from idempotency_keys where id = ${request.id}`,
  );
  if (!kept) throw new Error('an idempotency key vanished between two statements');
  if (kept.body_hash !== request.bodyHash) {
    throw new AppError('idempotency_key_reused', 'This idempotency key was used with another body.');
  }
  return { result: kept.result, isReplay: true };
}

/** Deletes keys that have expired, a batch at a time: what is left is for the next. */
export async function pruneIdempotencyKeys(database: Database): Promise<void> {
  await database.run(sql`
    delete from idempotency_keys where id in (
      select id from idempotency_keys
      where created_at < clock_timestamp() - ${IDEMPOTENCY_LIFETIME_HOURS} * interval '1 hour'
      order by created_at limit ${RECONCILE_LIMIT})`);
}

async function isFirst(em: SqlEntityManager, request: IdempotentRequest, waitMs: number): Promise<boolean> {
  try {
    await runOn(em, sql`select set_config('lock_timeout', ${String(waitMs)}, true)`);
    const inserted = await runOn(
      em,
      sql`
        insert into idempotency_keys as kept (id, body_hash, result)
        values (${request.id}, ${request.bodyHash}, '{}')
        on conflict (id) do update set body_hash = excluded.body_hash, created_at = clock_timestamp()
          where kept.created_at < clock_timestamp() - ${IDEMPOTENCY_LIFETIME_HOURS} * interval '1 hour'
        returning id`,
    );
    return inserted.length === 1;
  } catch (error) {
    if (!isLockTimeout(error)) throw error;
    throw new AppError(
      'idempotency_in_progress',
      'The first request with this idempotency key is still running.',
      {
        retryAfterSeconds: 1,
      },
    );
  }
}
