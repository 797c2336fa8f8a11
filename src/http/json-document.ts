import { isUtf8 } from 'node:buffer';
import type { FieldError } from '../runtime/app-error.js';

/** No body of this API is deeper than 3; what is far deeper is made to exhaust the stack of a validator. */
const MAX_DEPTH = 16;

/**
 * Most values of a body where its route says nothing else, those inside of others included: a chatbot with all that its limits allow has a quarter of it. A
 * list of empty objects takes three bytes for each, and a validator microseconds.
 */
export const MAX_VALUES = 1_000;

/** At most so many fields are named. */
const MAX_ERRORS = 20;

/** What a body came to: its object, or why it is none. */
export type JsonDocument =
  | { status: 'object'; body: object }
  | { status: 'malformed'; reason: string }
  | { status: 'refused'; errors: FieldError[] };

/**
 * Reads the bytes of a body, and finds what no field may hold.
 *
 * @param maxValues that it may hold, those inside of others included
 */
export function readJson(bytes: Uint8Array, maxValues: number): JsonDocument {
  if (!isUtf8(bytes)) return { status: 'malformed', reason: 'the body is not UTF-8' };
  let body: unknown;
  try {
    body = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    return { status: 'malformed', reason: String(error) };
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    return { status: 'refused', errors: [{ pointer: '', message: 'must be an object' }] };
  }
  const errors = holdsMoreThan(maxValues, body)
    ? [{ pointer: '', message: `must hold at most ${maxValues} values` }]
    : unsafeText(body);
  return errors.length > 0 ? { status: 'refused', errors } : { status: 'object', body };
}

/** Stops as soon as it is known. */
function holdsMoreThan(maxValues: number, body: object): boolean {
  const rest: object[] = [body];
  let values = 0;
  for (let outer = rest.pop(); outer; outer = rest.pop()) {
    values += Array.isArray(outer) ? outer.length : Object.keys(outer).length;
    if (values > maxValues) return true;
    for (const inner of Object.values(outer))
      if (typeof inner === 'object' && inner !== null) rest.push(inner);
  }
  return false;
}

/**
 * Finds what PostgreSQL cannot store (NUL), what would be changed silently (lone surrogates), and what is made
 * to confuse a validator (the names that every object has, such as `__proto__` and `constructor`, which it takes for
 * known fields; endless nesting). Iterative, since its input may be hostile.
 */
function unsafeText(body: object): FieldError[] {
  const errors: FieldError[] = [];
  const rest: { value: unknown; pointer: string; depth: number }[] = [{ value: body, pointer: '', depth: 0 }];
  for (let item = rest.pop(); item && errors.length < MAX_ERRORS; item = rest.pop()) {
    const { value, pointer, depth } = item;
    if (typeof value === 'string') {
      if (value.includes('\0')) errors.push({ pointer, message: 'must not hold a NUL character' });
      else if (!value.isWellFormed()) errors.push({ pointer, message: 'must not hold a lone surrogate' });
    } else if (typeof value === 'object' && value !== null) {
      if (depth >= MAX_DEPTH) {
        errors.push({ pointer, message: 'is nested too deeply' });
        continue;
      }
      for (const [key, inner] of Object.entries(value)) {
        const at = `${pointer}/${key.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')}`;
        if (key in Object.prototype) errors.push({ pointer: at, message: 'is not a field of this request' });
        else rest.push({ value: inner, pointer: at, depth: depth + 1 });
      }
    }
  }
  return errors;
}
