import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Installs the foreign clients, where their lock file is not the one that was installed last. */

const inHere = (...path) => join(import.meta.dirname, ...path);
const stamp = inHere('node_modules', '.assistly-lock-hash');
const wanted = createHash('sha256')
  .update(readFileSync(inHere('package-lock.json')))
  .digest('hex');

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  console.log('Installing the clients that test/clients is about ...');
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error', '--include=dev', '--include=optional'];
  // As src/cli/setup.mjs: the npm that runs this is on a Node.js of its own.
  const npm = process.env.npm_execpath?.endsWith('npm-cli.js') ? process.env.npm_execpath : undefined;
  const options = { cwd: import.meta.dirname, stdio: ['ignore', 'ignore', 'inherit'] };
  const { status, error } = npm
    ? spawnSync(process.env.npm_node_execpath ?? process.execPath, [npm, ...args], options)
    : spawnSync('npm', args, { ...options, shell: process.platform === 'win32' });
  if (status !== 0) {
    console.error(`npm ci in test/clients failed${error ? `: ${error.message}` : '; see above.'}`);
    process.exit(1);
  }
  writeFileSync(stamp, wanted);
}
