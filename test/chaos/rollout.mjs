import { execFile } from 'node:child_process';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { checkLeaks } from './lib/checks.mjs';
import { copyProduct, patchFile } from './lib/cluster.mjs';
import { backendsOf, checkReplaced, playScene, row } from './lib/stage.mjs';

/**
 * A rolling deployment of a next version under load, and its rollback: the migration runs while the old version
 * works, then every process is replaced, one after the other, and then back again, on the new schema. The next
 * version adds a migration, and a field to its jobs that the old one does not know. No reply may be lost, doubled
 * or charged, and no request may wait for the migration.
 *
 *   node test/chaos/rollout.mjs --backend both
 */

const { values: options } = parseArgs({
  options: { backend: { type: 'string', default: 'both' }, keep: { type: 'boolean', default: false } },
});
const SETTLE_MS = 2_000;
/** Longest that a request may wait for a table which the migration wants: its lock_timeout, and a slow machine. */
const MAX_LOCK_WAIT_MS = 1_000 + 500;
const run = promisify(execFile);

/** @param {string} directory of a copy of the build, which becomes that of a next version */
async function makeNextVersion(directory) {
  // Each locks one table in use, as the README asks of migrations.
  const statements = [
    'alter table replies add note text null',
    "alter table messages add mood text not null default 'calm'",
  ];
  for (const [i, statement] of statements.entries()) {
    const name = `Next${i}`;
    await writeFile(
      join(directory, `dist/src/database/migrations/${name}.js`),
      `import { Migration } from '@mikro-orm/migrations';
export class ${name} extends Migration {
  name = '${name}';
  up() { this.addSql(${JSON.stringify(statement)}); }
}
`,
    );
    const index = 'dist/src/database/migrations/index.js';
    const header = '/** In the order';
    await patchFile(directory, index, header, `import { ${name} } from './${name}.js';\n${header}`);
    await patchFile(directory, index, '\n];', `\n    ${name},\n];`);
  }
  await patchFile(
    directory,
    'dist/src/conversations/reply-queue.js',
    'version: 1,',
    "version: 1, shade: 'blue',",
  );
}

/** Looks at who waits for a table, until it is stopped; that gives the longest such wait, in milliseconds. */
function watchLockWaits(cluster) {
  let isStopped = false;
  const watching = (async () => {
    let longestMs = 0;
    while (!isStopped) {
      const [{ ms }] = await cluster.query(
        `select coalesce(max(extract(epoch from clock_timestamp() - waitstart) * 1000), 0)::int as ms
         from pg_locks where locktype = 'relation' and not granted`,
      );
      longestMs = Math.max(longestMs, ms);
      await sleep(20);
    }
    return longestMs;
  })();
  const stop = () => {
    isStopped = true;
    return watching;
  };
  return { stop };
}

/** @param {import('./lib/stage.mjs').Stage} stage */
async function rollOut(stage) {
  const { cluster, findings } = stage;
  const next = await copyProduct(makeNextVersion);
  try {
    await cp(join(cluster.directory, '.assistly'), join(next, '.assistly'), { recursive: true });
    const load = stage.makeLoad({ guests: 20, pauseMs: 1_500 }); // as many writers as the fault plan asks for
    load.start();
    await sleep(SETTLE_MS);

    const lockWaits = watchLockWaits(cluster);
    const migratingAt = Date.now();
    await run(process.execPath, ['dist/src/cli/migrate.js'], {
      cwd: next,
      env: { PATH: process.env.PATH, DATABASE_URL: cluster.databaseUrl },
      timeout: 30_000,
    });
    row('migrated in', `${Date.now() - migratingAt} ms, start of the program included`);
    await sleep(SETTLE_MS);
    const longestMs = await lockWaits.stop();
    row('longest wait for a table', `${longestMs} ms`);
    if (longestMs > MAX_LOCK_WAIT_MS) {
      findings.add('somebody waited too long for the migration', `${longestMs} ms`);
    }

    /** One after the other: workers before the apis that send them jobs, and the other way round on the way back. */
    const replaceAll = async (processes, directory) => {
      for (const each of processes) {
        const code = await each.end('SIGTERM', 45_000);
        if (code !== 0) findings.add('a process did not end well', `${each.name} ended with ${code}`);
        each.directory = directory;
        each.start();
        await cluster.untilReady([each], 30_000);
      }
      await sleep(SETTLE_MS);
    };
    await replaceAll([...cluster.workers, ...cluster.apis], next);
    await replaceAll([...cluster.apis, ...cluster.workers], null);

    await load.stopPosting();
    const { counts } = await checkReplaced(stage, load);
    for (const [name, value] of Object.entries(counts)) row(name, value);
    await checkLeaks({ cluster, load }, findings);
  } finally {
    await rm(next, { recursive: true, force: true });
  }
}

const title = 'a rolling deployment under load, and its rollback';
let isGood = true;
for (const backend of backendsOf(options.backend)) {
  isGood = (await playScene({ backend, title, keep: options.keep }, rollOut)) && isGood;
}
process.exit(isGood ? 0 : 1);
