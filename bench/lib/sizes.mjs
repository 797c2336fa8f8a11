// What is installed: for developing, and for production only. Asks the registry.
import { execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** @param {string} directory @returns its size on the disk in MB */
const megabytes = (directory) =>
  Number(execFileSync('du', ['-sk', directory], { encoding: 'utf8' }).split('\t', 1)[0]) / 1_024;

/** @param {import('./run.mjs').Run} run */
export async function sizes({ report }) {
  report.add({ name: 'node_modules', unit: 'MB' }, [megabytes('node_modules')]);
  const copy = await mkdtemp(join(tmpdir(), 'assistly-sizes-'));
  try {
    for (const file of ['package.json', 'package-lock.json', 'client/package.json', 'web/package.json']) {
      await mkdir(join(copy, file, '..'), { recursive: true });
      await cp(file, join(copy, file));
    }
    execFileSync(
      'npm',
      ['ci', '--omit=dev', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund'],
      {
        cwd: copy,
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
    report.add({ name: 'production packages', unit: 'MB' }, [megabytes(join(copy, 'node_modules'))]);
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}
