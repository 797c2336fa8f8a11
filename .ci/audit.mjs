// Whether a package that runs in production has a known weakness. Where the registry tells of none, as a mirror may not, that
// is said, and nothing is checked. One that does not concern us is accepted in .ci/audit-accepted.json: by its id, with the
// reason, and until when; after that day it fails again.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ACCEPTED = new URL('audit-accepted.json', import.meta.url);

/**
 * @typedef {{ id: string, severity: string, title: string, package: string }} Advisory
 * @typedef {Record<string, { reason: string, until: string }>} Accepted
 */

/**
 * The advisories in a report of `npm audit --json`, each once.
 *
 * @param {unknown} report
 * @returns {Advisory[] | null} null where it is none: the registry has not answered
 */
export function advisoriesIn(report) {
  if (typeof report !== 'object' || report === null || !('vulnerabilities' in report)) return null;
  const found = new Map();
  for (const { via } of Object.values(/** @type {Record<string, any>} */ (report.vulnerabilities))) {
    for (const advisory of via) {
      if (typeof advisory === 'string') continue; // another package, which stands in the report as well
      const id = /GHSA(?:-\w{4}){3}/.exec(String(advisory.url))?.[0] ?? String(advisory.source);
      const { severity, title, name } = advisory;
      found.set(id, { id, severity, title, package: name });
    }
  }
  return [...found.values()];
}

/**
 * @param {readonly Advisory[]} advisories
 * @param {Accepted} accepted
 * @param {string} today as 2026-01-31
 * @returns {string[]} a line for each that is not accepted, and for each acceptance that is of no use any more
 */
export function problemsIn(advisories, accepted, today) {
  const ids = new Set(advisories.map(({ id }) => id));
  return [
    ...advisories
      .filter(({ id }) => !(id in accepted) || accepted[id].until < today)
      .map((one) => `${one.package}: ${one.severity}, ${one.title} (${one.id})`),
    ...Object.keys(accepted)
      .filter((id) => !ids.has(id))
      .map((id) => `${id} is accepted, and there is no such advisory any more: take it out`),
  ];
}

/** `npm audit` ends with 1 where it has found something, and where it got no answer. */
function audit() {
  try {
    return execFileSync('npm', ['audit', '--omit=dev', '--omit=optional', '--json'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 60_000,
    });
  } catch (error) {
    return /** @type {{ stdout?: string }} */ (error).stdout ?? '';
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = audit();
  const advisories = advisoriesIn(text.trim().startsWith('{') ? JSON.parse(text) : null);
  if (advisories === null) {
    console.log('NOT AUDITED: the registry tells no advisories.');
  } else {
    const accepted = JSON.parse(readFileSync(ACCEPTED, 'utf8'));
    const problems = problemsIn(advisories, accepted, new Date().toISOString().slice(0, 10));
    for (const problem of problems) console.error(problem);
    console.log(`${advisories.length} advisories, ${Object.keys(accepted).length} accepted`);
    process.exitCode = problems.length === 0 ? 0 : 1;
  }
}
