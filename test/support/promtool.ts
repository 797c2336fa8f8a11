import { describe, it } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';

function hasPromtool(): boolean {
  try {
    execFileSync('promtool', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Tests that need Prometheus' promtool: skipped with a loud word where there is none, and failed there in CI. */
export function describeWithPromtool(name: string, tests: () => void): void {
  if (hasPromtool()) {
    describe(name, tests);
    return;
  }
  if (process.env['CI'] === 'true') {
    describe(name, () => {
      it('needs promtool, which CI has to have', () => {
        throw new Error('There is no promtool on the PATH (Debian: the package prometheus).');
      });
    });
    return;
  }
  const line = '!'.repeat(80);
  console.warn(`${line}\nSKIPPED: ${name}. There is no promtool on the PATH.\n${line}`);
  // `npm test` has to pass with nothing but Node and npm; in CI, where promtool is installed, it failed above.
  describe.skip(name, tests);
}

/** @returns what promtool said; fails where it found something wrong */
export function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`promtool ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}

/** Runs promtool on files that are made for it, by name. */
export function promtoolOn(command: [string, string], files: Record<string, object>, last: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'assistly-promtool-'));
  try {
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(directory, name), stringify(content));
    }
    return promtool(...command, join(directory, last));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
