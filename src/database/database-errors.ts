import { isStaleStatement } from './prepared-statements.js';

/** What PostgreSQL's and the driver's errors mean for the one who asked. */

const UNIQUE_VIOLATION = '23505';
const LOCK_NOT_AVAILABLE = '55P03';

/**
 * Classes 08 (connection), 57P0x (shutting down, starting up, idle for too long), 53 (out of connections), what a server
 * that has become a standby refuses, and Node's own.
 */
const UNAVAILABLE =
  /^(08...|57P0[1-5]|25P0[34]|25006|53...|ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EPIPE)$/;
/** Serialization failure, deadlock, lock timeout, statement timeout: the same again may well succeed. */
const PASSING = /^(40001|40P01|55P03|57014)$/;
/** Of those, serialization failure and deadlock: whatever was in the transaction is undone. */
const UNDONE = /^(40001|40P01)$/;
/** Messages of `pg` that carry no code. */
const UNAVAILABLE_MESSAGE =
  /Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error|Cannot use a pool after calling end|connection timeout/i;

/** The error and its causes, bounded, as wrapped by the ORM. */
function* chain(error: unknown): Generator<{ code?: unknown; message?: unknown }> {
  let current: unknown = error;
  for (let depth = 0; depth < 5 && typeof current === 'object' && current !== null; depth++) {
    yield current;
    if ('errors' in current && Array.isArray(current.errors)) {
      yield* current.errors.filter((inner): inner is object => typeof inner === 'object' && inner !== null);
    }
    current = 'cause' in current ? current.cause : undefined;
  }
}

const hasCode = (error: unknown, pattern: RegExp): boolean =>
  [...chain(error)].some((link) => typeof link.code === 'string' && pattern.test(link.code));

/** A statement waited longer for a lock than it may. */
export function isLockTimeout(error: unknown): boolean {
  return [...chain(error)].some((link) => link.code === LOCK_NOT_AVAILABLE);
}

export function isUniqueViolation(error: unknown): boolean {
  return [...chain(error)].some((link) => link.code === UNIQUE_VIOLATION);
}

/**
 * The server has undone the transaction, for another's sake or since its statements have to be parsed anew: it may be done
 * again whatever it does.
 */
export function isUndone(error: unknown): boolean {
  return hasCode(error, UNDONE) || [...chain(error)].some(isStaleStatement);
}

/** The database cannot be reached, is starting or stopping, or has no connection to spare. */
export function isDatabaseUnavailable(error: unknown): boolean {
  return (
    hasCode(error, UNAVAILABLE) ||
    hasCode(error, PASSING) ||
    [...chain(error)].some(
      (link) => typeof link.message === 'string' && UNAVAILABLE_MESSAGE.test(link.message),
    )
  );
}
