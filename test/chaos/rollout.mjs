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
/** Slowest acknowledgement while the migration runs, resending by impatient guests included. */
const MAX_ACK_MS = 2_000;
const run = promisify(execFile);

/** @param {string} directory of a copy of the build, which becomes that of a next version */
async function makeNextVersion(directory) {
  await writeFile(
    join(directory, 'dist/src/database/migrations/Next.js'),
    `import { Migration } from '@mikro-orm/migrations';
export class Next extends Migration {
  name = 'Next';
  up() {
    this.addSql('alter table replies add note text null');
    this.addSql("alter table messages add mood text not null default 'calm'");
  }
}
`,
  );
  const index = 'dist/src/database/migrations/index.js';
  await patchFile(
    directory,
    index,
    '/** In the order',
    "import { Next } from './Next.js';\n/** In the order",
  );
  await patchFile(directory, index, '\n];', '\n    Next,\n];');
  await patchFile(directory, 'dist/src/messages/reply-queue.js', 'version: 1,', "version: 1, shade: 'blue',");
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

    const acksBefore = load.ackMs.length;
    const migratingAt = Date.now();
    await run(process.execPath, ['dist/src/cli/migrate.js'], {
      cwd: next,
      env: { PATH: process.env.PATH, DATABASE_URL: cluster.databaseUrl },
      timeout: 30_000,
    });
    row('migrated in', `${Date.now() - migratingAt} ms, start of the program included`);
    await sleep(SETTLE_MS);
    const slowestMs = Math.max(...load.ackMs.slice(acksBefore));
    row('slowest acknowledgement meanwhile', `${slowestMs} ms of ${load.ackMs.length - acksBefore}`);
    if (slowestMs > MAX_ACK_MS) findings.add('a request waited for the migration', `${slowestMs} ms`);

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
