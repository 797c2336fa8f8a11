import { sql } from 'kysely';
import { AppError } from '../runtime/app-error.js';
import { isLockTimeout } from './database-errors.js';
import { type Database, now, runOn } from './database.js';
import type { Tx } from './tables.js';

/**
 * `Idempotency-Key`: the same key, route, caller and body within a day answers with what the first request made.
 *
 * The key is a row of the transaction that it protects: both are there or neither. A second request with the key
 * waits at the row's unique index until the first transaction has ended, and then either finds its result or, where
 * it failed, takes its place. So only successes are kept, and no state has to be cleaned up after a crash.
 */

export const IDEMPOTENCY_LIFETIME_HOURS = 24;

/** How many expired keys one round of the reconciler deletes. */
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
 * Does the work once for a key, within the transaction; without a key it simply does it.
 *
 * @param waitMs how long a repetition waits for the first request
 * @param work makes things, and gives their ids
 * @throws AppError idempotency_key_reused, idempotency_in_progress
 */
export async function once<T extends Record<string, string>>(
  tx: Tx,
  request: IdempotentRequest | null,
  waitMs: number,
  work: () => Promise<T>,
): Promise<IdempotentResult<T>> {
  if (!request) return { result: await work(), isReplay: false };
  if (await isFirst(tx, request, waitMs)) {
    const result = await work();
    await tx.updateTable('idempotency_keys').set({ result }).where('id', '=', request.id).execute();
    return { result, isReplay: false };
  }
  const kept = await tx
    .selectFrom('idempotency_keys')
    .select(['body_hash', 'result'])
    .where('id', '=', request.id)
    .executeTakeFirst();
  if (!kept) throw new Error('an idempotency key vanished between two statements');
  if (kept.body_hash !== request.bodyHash) {
    throw new AppError('idempotency_key_reused', 'This idempotency key was used with another body.');
  }
  return { result: kept.result as T, isReplay: true };
}

/** Deletes keys that have expired, a batch at a time: what is left is for the next. */
export async function pruneIdempotencyKeys(database: Database): Promise<void> {
  await database.write((db) =>
    db
      .deleteFrom('idempotency_keys')
      .where('id', 'in', (eb) =>
        eb
          .selectFrom('idempotency_keys')
          .select('id')
          .where('created_at', '<', expiryTime())
          .orderBy('created_at')
          .limit(RECONCILE_LIMIT),
      )
      .execute(),
  );
}

/** Keys from before it have expired. */
const expiryTime = () => sql<string>`${now} - ${IDEMPOTENCY_LIFETIME_HOURS} * interval '1 hour'`;

async function isFirst(tx: Tx, request: IdempotentRequest, waitMs: number): Promise<boolean> {
  try {
    await runOn(tx, sql`select set_config('lock_timeout', ${String(waitMs)}, true)`);
    const inserted = await tx
      .insertInto('idempotency_keys')
      .values({ id: request.id, body_hash: request.bodyHash, result: {} })
      .onConflict((conflict) =>
        conflict
          .column('id')
          .doUpdateSet((eb) => ({ body_hash: eb.ref('excluded.body_hash'), created_at: now }))
          .where('idempotency_keys.created_at', '<', expiryTime()),
      )
      .returning('id')
      .executeTakeFirst();
    return inserted !== undefined;
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
