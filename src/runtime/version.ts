import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where the project's package.json stands, seen from the sources and from the build. */
const ROOT = ['../../', '../../../']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find((path) => existsSync(`${path}package.json`))!;

/** The version of the product. */
export const VERSION = (JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { version: string })
  .version;

const UNKNOWN = 'unknown';

/** Deadline of git, in milliseconds. */
const GIT_TIMEOUT_MS = 1_000;

/** The commit that a clone has checked out; `unknown` where this is none, or there is no git. */
function checkedOut(): string {
  try {
    const answer = execFileSync('git', ['rev-parse', '--show-toplevel', 'HEAD'], {
      cwd: ROOT,
      encoding: 'utf8',
      timeout: GIT_TIMEOUT_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [directory = '', commit = ''] = answer.trim().split('\n');
    // A copy of the product within another repository has that one's commit.
    return realpathSync(directory) === realpathSync(ROOT) && commit !== '' ? commit : UNKNOWN;
  } catch {
    return UNKNOWN;
  }
}

let known: string | undefined;

/** @param given what the settings say; undefined: nothing */
export const commitOf = (given: string | undefined): string => given ?? (known ??= checkedOut());
