import { execFile } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import config from '../../client/openapi-ts.config.mjs';
import { ROOT } from '../support/deploy-files.mjs';

/** What can be said of the typed client only beside packages that a user of the product does not install. */

// By a name that the compiler does not look for, since these packages may not be installed when it runs.
const GENERATOR = '@hey-api/openapi-ts' as string;

describe('the generated part of the client', () => {
  it('is what openapi.json makes', async () => {
    const path = mkdtempSync(join(tmpdir(), 'assistly-client-'));
    const filesOf = (directory: string): Record<string, string> =>
      Object.fromEntries(
        globSync('**/*.ts', { cwd: directory })
          .toSorted()
          .map((file) => [file, readFileSync(join(directory, file), 'utf8')]),
      );

    const { createClient } = (await import(GENERATOR)) as {
      createClient: (options: object) => Promise<unknown>;
    };
    await createClient({
      ...config,
      output: { ...config.output, path },
      logs: { level: 'silent', file: false },
    });

    const made = filesOf(path);
    rmSync(path, { recursive: true });
    const checkedIn = filesOf(join(ROOT, 'client/src/generated'));
    const stale = Object.keys({ ...made, ...checkedIn }).filter((file) => made[file] !== checkedIn[file]);
    if (stale.length > 0) throw new Error(`${stale.join()} is not up to date. Run: npm run client:generate`);
  });
});

describe('the transport', () => {
  it('is what the AI SDK takes, to the compiler', async () => {
    const options = [
      '--ignoreConfig',
      '--noEmit',
      '--skipLibCheck',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2022',
    ];
    const compiling = promisify(execFile)(
      process.execPath,
      [
        join(ROOT, 'node_modules/typescript/bin/tsc'),
        ...options,
        '--lib',
        'es2022,dom,dom.iterable',
        'clients/transport.ts',
      ],
      { cwd: import.meta.dirname },
    );
    await expect(compiling.catch(({ stdout }: { stdout: string }) => stdout)).resolves.toMatchObject({
      stdout: '',
    });
  });
});
