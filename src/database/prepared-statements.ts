/**
 * Names for statements, so that each connection has the server parse a statement once. The text decides the name, and
 * Kysely writes the same text for the same statement, so there are some hundred of them at most.
 */

/** Beyond, statements stay without a name: a connection's memory on the server is bounded. */
const MOST = 500;
/** In which PostgreSQL says that a statement returns other columns than when it was parsed: its tables were changed. */
const STALE_ROUTINE = 'RevalidateCachedQuery';
const FEATURE_NOT_SUPPORTED = '0A000';
/** Who stands between has another connection than the one that parsed it. */
const UNKNOWN_STATEMENT = '26000';

let generation = 0;
let names = new Map<string, string>();

/** @returns undefined where there are too many already */
export function statementName(text: string): string | undefined {
  const known = names.get(text);
  if (known !== undefined || names.size >= MOST) return known;
  const name = `assistly_${generation}_${names.size}`;
  names.set(text, name);
  return name;
}

/** Whether a statement has to be parsed anew, under another name. It did nothing, and a transaction that it was in is undone. */
export function isStaleStatement(error: unknown): boolean {
  if (typeof error !== 'object' || error === null || !('code' in error)) return false;
  const isChanged =
    error.code === FEATURE_NOT_SUPPORTED && 'routine' in error && error.routine === STALE_ROUTINE;
  return isChanged || error.code === UNKNOWN_STATEMENT;
}

/** Gives all statements other names: every connection parses them anew when it needs them. */
export function forgetStatements(): void {
  generation++;
  names = new Map();
}
