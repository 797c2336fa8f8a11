import { globSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { readText, ROOT } from '../support/deploy-files.mjs';

/** The text from an opening parenthesis to the one that closes it. */
function argumentsAt(source: string, opening: number): string {
  let depth = 0;
  for (let i = opening; i < source.length; i++) {
    if (source[i] === '(') depth++;
    if (source[i] === ')') depth--;
    if (depth === 0) return source.slice(opening + 1, i);
  }
  throw new Error('a call without an end');
}

/** The calls of a source that log, with their arguments. */
const callsIn = (source: string, pattern: RegExp): { method: string; text: string }[] =>
  [...source.matchAll(pattern)].map((match) => ({
    method: match[1] ?? '',
    text: argumentsAt(source, match.index + match[0].length - 1),
  }));

const LEVELS: Record<string, string> = { log: 'info', warn: 'warn', error: 'error', debug: 'debug' };
const NAME = String.raw`'([a-z_]+\.[a-z_]+)'`;

interface LogCall {
  file: string;
  level: string;
  /** Null where the call names none. */
  event: string | null;
  text: string;
}

/** Each call of a logger, or of the event stream's `onError`, which warns of a failure under the name that it is given. */
const calls: LogCall[] = globSync('src/**/*.ts', { cwd: ROOT }).flatMap((file) => {
  const source = readText(file);
  return [
    ...callsIn(source, /\b(?:l|pacedL)ogger\.(\w+)\(/g).map(({ method, text }) => ({
      file,
      level: LEVELS[method] ?? method,
      event: new RegExp(`event: ${NAME}`).exec(text)?.[1] ?? null,
      text,
    })),
    ...callsIn(source, /\b(?:onError|on\.error)(\()/g).map(({ text }) => ({
      file,
      level: 'warn',
      event: new RegExp(`,\\s*${NAME},`).exec(text)?.[1] ?? null,
      text,
    })),
  ];
});

/** The lines of requests are pino-http's, which get their names in the logging module. */
const REQUESTS = ['request.completed info', 'request.failed error'];

const events = [
  ...new Set([
    ...REQUESTS,
    ...calls.flatMap(({ event, level }) => (event === null ? [] : `${event} ${level}`)),
  ]),
].toSorted();

describe('the log', () => {
  it('has a stable event in every line that the sources write', () => {
    // The calls that pass on what they are given: `onError`'s, and those of the paced logger.
    const nameless = calls.filter(
      ({ file, event, text }) =>
        event === null && text !== '{ event, err: error }, message' && file !== 'src/runtime/paced-logger.ts',
    );
    expect(nameless).toEqual([]);
    expect(calls.length).toBeGreaterThan(25);
  });

  it('names requests', () => {
    const source = readText('src/logging/logging.module.ts');
    for (const request of REQUESTS) expect(source).toContain(`event: '${request.split(' ')[0]}'`);
  });

  // To rename one breaks the searches and alerts of whoever runs the product: the table shows it in review.
  it('has the events and levels of the table in deploy/README.md', () => {
    const rows = [...readText('deploy/README.md').matchAll(/^\| `([a-z_.]+)` +\| (info|warn|error) +\|/gm)];
    expect(rows.map(([, event, level]) => `${event} ${level}`).toSorted()).toEqual(events);
  });
});
