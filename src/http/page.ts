import { createHash } from 'node:crypto';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';
import { AppError } from '../runtime/app-error.js';

/**
 * Keyset pagination. A cursor holds the sort key of the last row of a page, so that no page costs more than
 * the first; and a fingerprint of the list it belongs to (route, filter, order), so that it is refused with
 * any other.
 */

export const DEFAULT_LIMIT = 50;
export const MAX_LIMIT = 100;

export interface PageRequest {
  limit: number;
  cursor: string | undefined;
}

export interface Page<T> {
  data: T[];
  nextCursor: string | null;
}

const single = (request: Request, name: string): string | undefined => {
  const value = request.query[name];
  if (value === undefined || typeof value === 'string') return value;
  throw new AppError('invalid_request', `The parameter ${name} may be given once.`, {
    errors: [{ pointer: name, message: 'may be given once' }],
  });
};

/** `limit` and `cursor` of a list request. */
export const PageQuery = createParamDecorator((_: unknown, context: ExecutionContext): PageRequest => {
  const request = context.switchToHttp().getRequest<Request>();
  const limit = single(request, 'limit');
  if (limit !== undefined && !(/^\d{1,3}$/.test(limit) && Number(limit) >= 1 && Number(limit) <= MAX_LIMIT)) {
    throw new AppError('invalid_request', `The limit must be 1 to ${MAX_LIMIT}.`, {
      errors: [{ pointer: 'limit', message: `must be a whole number from 1 to ${MAX_LIMIT}` }],
    });
  }
  return { limit: limit === undefined ? DEFAULT_LIMIT : Number(limit), cursor: single(request, 'cursor') };
});

const fingerprint = (list: string): string =>
  createHash('sha256').update(list).digest('base64url').slice(0, 8);

/** @param list names route, filter and order, e.g. `messages:<session id>:asc` */
export function encodeCursor(list: string, key: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify([fingerprint(list), ...key])).toString('base64url');
}

/**
 * The sort key in a cursor.
 *
 * @param isKey checks the key's shape, since a cursor is a client's text
 * @throws AppError invalid_cursor
 */
export function decodeCursor<K extends readonly (string | number)[]>(
  list: string,
  cursor: string,
  isKey: (key: readonly unknown[]) => key is K,
): K {
  try {
    const [mark, ...key] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
    if (mark === fingerprint(list) && isKey(key)) return key;
  } catch {
    // Not even JSON: as wrong as any other.
  }
  throw new AppError('invalid_cursor', 'Start again without a cursor.', {
    errors: [{ pointer: 'cursor', message: 'does not belong to this list' }],
  });
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** A time that PostgreSQL has too: no 31st of February, and no year 0. */
const isTime = (text: string): boolean => {
  const time = new Date(text);
  return time.getTime() >= 0 && text === time.toISOString() && text.length === 24;
};

/** A key of lists in time order; the id decides between equal times. */
type TimeKey = readonly [time: string, id: string];
export const isTimeKey = (key: readonly unknown[]): key is TimeKey =>
  key.length === 2 &&
  typeof key[0] === 'string' &&
  isTime(key[0]) &&
  typeof key[1] === 'string' &&
  UUID.test(key[1]);

type SequenceKey = readonly [sequence: number];
export const isSequenceKey = (key: readonly unknown[]): key is SequenceKey =>
  key.length === 1 && Number.isInteger(key[0]) && (key[0] as number) >= 0 && (key[0] as number) < 2 ** 31;

/**
 * Cuts a page out of `limit + 1` rows: the extra row shows that there is a next page.
 */
export function toPage<R, T>(
  rows: readonly R[],
  limit: number,
  list: string,
  keyOf: (row: R) => readonly (string | number)[],
  toDto: (row: R) => T,
): Page<T> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    data: shown.map(toDto),
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(list, keyOf(last)) : null,
  };
}
