import { errorCode } from '../runtime/error-code.js';
import { healthOrigins, loadEnvFile } from '../config/env.js';

/**
 * `node dist/src/cli/health.js live|ready`: asks the process of this machine, or container, with the same settings.
 * Ends with 0 when the answer is 200, and otherwise with 1 and the reason.
 */

const TIMEOUT_MS = 4_000;

/** @returns what is wrong, null where nothing is */
async function ask(check: 'live' | 'ready'): Promise<string | null> {
  const origins = healthOrigins();
  for (const origin of origins) {
    try {
      const response = await fetch(`${origin}/health/${check}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (response.ok) return null;
      const { detail } = (await response.json().catch(() => ({}))) as { detail?: string };
      return `${response.status} ${detail ?? ''}`.trim();
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined;
      // Nothing listens there: what runs here may have the other role.
      if (errorCode(cause) !== 'ECONNREFUSED') return `${origin} does not answer: ${String(cause ?? error)}`;
    }
  }
  return `Nothing listens on ${origins.join(' or ')}.`;
}

const [check] = process.argv.slice(2);
loadEnvFile();
const problem =
  check === 'live' || check === 'ready' ? await ask(check) : 'Usage: node dist/src/cli/health.js live|ready';
if (problem !== null) {
  console.error(problem);
  process.exitCode = 1;
}
