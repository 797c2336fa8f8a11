import { createHash } from 'node:crypto';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { SqlEntityManager } from '@mikro-orm/postgresql';
import type { Request, Response } from 'express';
import { sql } from 'kysely';
import type { Principal } from '../auth/principal.js';
import { AppError } from '../common/app-error.js';
import { isLockTimeout } from '../common/database-errors.js';
import { type Database, runOn } from '../database/database.js';

/**
 * `Idempotency-Key`: the same key, route, caller and body within a day answers with what the first request made.
 *
 * The key is a row of the transaction that it protects: both are there or neither. A second request with the key
 * waits at the row's unique index until the first transaction has ended, and then either finds its result or, where
 * it failed, takes its place. So only successes are kept, and no state has to be cleaned up after a crash.
 */

export const IDEMPOTENCY_HEADER = 'Idempotency-Key';
export const REPLAYED_HEADER = 'Idempotency-Replayed';
export const IDEMPOTENCY_LIFETIME_HOURS = 24;

/** How many expired keys one sweep deletes. */
const SWEEP_LIMIT = 5_000;

const KEY = /^[\x21-\x7e]{1,255}$/;

/** A request that carries a key. */
export interface IdempotentRequest {
  /** SHA-256 of caller, route and key, hex. */
  id: string;
  /** SHA-256 of the body, hex. */
  bodyHash: string;
}

/** The ids of what a request made: of this one, or of the first with its key. */
export interface IdempotentResult<T> {
  result: T;
  isReplay: boolean;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** JSON with its keys in order, so that the same fields in another order are the same body. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

const callerOf = (principal: Principal | undefined): string => {
  if (!principal) throw new Error('a route without a caller has no idempotency');
  return principal.kind === 'owner'
    ? `owner:${principal.clerkUserId}`
    : `${principal.kind}:${principal.sessionId}`;
};

/** The request's idempotency, or null where it carries no key. The body is the one that was sent. */
export const Idempotent = createParamDecorator(
  (_: unknown, context: ExecutionContext): IdempotentRequest | null => {
    const request = context.switchToHttp().getRequest<Request>();
    const header = request.headers['idempotency-key'];
    if (header === undefined) return null;
    const bare = typeof header === 'string' ? header.replace(/^"(.*)"$/, '$1') : '';
    if (!KEY.test(bare)) {
      throw new AppError('invalid_request', 'The idempotency key is not usable.', {
        errors: [{ pointer: IDEMPOTENCY_HEADER, message: 'must be 1 to 255 visible ASCII characters' }],
      });
    }
    return {
      id: sha256([callerOf(request.principal), request.method, request.path, bare].join('\0')),
      bodyHash: sha256(canonical(request.body ?? {})),
    };
  },
);

/** Tells a client that it got the answer of an earlier request. */
export function markReplay(response: Response, isReplay: boolean): void {
  if (isReplay) response.setHeader(REPLAYED_HEADER, 'true');
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
export async function sweepIdempotencyKeys(database: Database): Promise<void> {
  await database.run(sql`
    delete from idempotency_keys where id in (
      select id from idempotency_keys
      where created_at < clock_timestamp() - ${IDEMPOTENCY_LIFETIME_HOURS} * interval '1 hour'
      order by created_at limit ${SWEEP_LIMIT})`);
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
