import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * What of openapi.json the tests have seen: each `<operation> <status> <code>`, and each `event <type>`. The test files
 * run in processes of their own, so they meet in a file.
 */

export function beginSeen() {
  const file = join(mkdtempSync(join(tmpdir(), 'assistly-seen-')), 'seen');
  writeFileSync(file, '');
  process.env.ASSISTLY_TEST_SEEN = file;
}

/**
 * Names the problems that are documented, and no test has seen.
 *
 * @param {boolean} isWhole whether all tests ran, so that every good answer and every event must have been seen
 */
export function endSeen(isWhole) {
  const file = process.env.ASSISTLY_TEST_SEEN ?? '';
  const seen = new Set(readFileSync(file, 'utf8').split('\n'));
  rmSync(dirname(file), { recursive: true });
  if (!isWhole) return;
  const document = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'));
  const missing = [...documented(document)].filter((what) => !seen.has(what));
  const mustBeSeen = missing.filter((what) => !/ [45]\d\d /.test(what));
  const problems = missing.filter((what) => / 4\d\d /.test(what)); // what any route has at 500 and 503 is one thing
  console.log(`Documented in openapi.json, and not seen by any test: ${problems.join(', ') || 'nothing'}`);
  if (mustBeSeen.length > 0) throw new Error(`No test has seen: ${mustBeSeen.join(', ')}`);
}

/** @param {any} document */
function* documented({ paths, components }) {
  for (const operation of Object.values(paths).flatMap((item) => Object.values(item))) {
    for (const [status, { content }] of Object.entries(operation.responses)) {
      const codes = Object.keys(
        (content?.['application/problem+json'] ?? content?.['text/plain'])?.examples ?? { '': null },
      );
      for (const code of codes) yield `${operation.operationId} ${status} ${code}`.trim();
    }
  }
  for (const type of Object.keys(components.schemas.SessionEvent.discriminator.mapping))
    yield `event ${type}`;
}
