import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from './error-code.js';

/**
 * The text of a file that only its owner may read, made at first use. Two processes that make it at once end up
 * with one and the same.
 */
export function ownFile(path: string, create: () => string): string {
  const existing = readIfThere(path);
  if (existing !== null) return existing;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, create(), { mode: 0o600 });
  try {
    linkSync(draft, path); // fails where another process was first
  } catch (error) {
    if (readIfThere(path) === null) throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(path, 'utf8');
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}
