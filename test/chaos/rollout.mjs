import { execFile } from 'node:child_process';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { check, checkLeaks, drain, Findings, untilSeen } from './lib/checks.mjs';
import { Cluster, copyProduct, createChatbot, patchFile } from './lib/cluster.mjs';
import { Load } from './lib/load.mjs';
import { NO_FAULTS, Provider } from './lib/provider.mjs';
import { Random } from './lib/random.mjs';

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
const DRAIN_MS = 60_000;
const SETTLE_MS = 2_000;
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

async function rollOut(backend) {
  console.log(`\n== ${backend}: a rolling deployment under load, and its rollback`);
  const findings = new Findings();
  const random = new Random(1);
  const provider = new Provider(1);
  await provider.listen();
  provider.faults = NO_FAULTS;
  const next = await copyProduct(makeNextVersion);
  let cluster;
  try {
    cluster = await Cluster.start({
      backend,
      directory: await copyProduct(),
      providerUrl: (worker) => provider.baseUrl(worker),
    });
    await cp(join(cluster.directory, '.assistly'), join(next, '.assistly'), { recursive: true });
    const load = new Load({
      urls: cluster.apis.map(({ url }) => url),
      chatbotId: (await createChatbot(cluster)).id,
      random,
      guests: 20, // as many writers as the fault plan asks for
      pauseMs: 1_500,
    });
    load.start();
    await sleep(SETTLE_MS);

    const migratingAt = Date.now();
    await run(process.execPath, ['dist/src/cli/migrate.js'], {
      cwd: next,
      env: { PATH: process.env.PATH, DATABASE_URL: cluster.databaseUrl },
      timeout: 30_000,
    });
    const migrateMs = Date.now() - migratingAt;
    await sleep(SETTLE_MS);

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
    const drainedMs = await drain(cluster, DRAIN_MS);
    if (drainedMs === null) findings.add('I1 not drained', `within ${DRAIN_MS} ms`);
    await untilSeen(cluster, load.sessions, 15_000);
    const result = await check({ cluster, load, provider, budget: 4 }, findings);
    const charged = result.counts['failures charged'];
    if (charged > 0) findings.add('a hand-back was charged', String(charged));
    await checkLeaks({ cluster, load }, findings);
    const row = (name, value) => console.log(`  ${name.padEnd(34)} ${value}`);
    row('migrated in', `${migrateMs} ms, start of the program included`);
    for (const [name, value] of Object.entries(result.counts)) row(name, value);
    row('slowest acknowledgement', `${Math.max(...load.ackMs)} ms`);
  } finally {
    await cluster?.close({ keep: options.keep });
    await provider.close();
    await rm(next, { recursive: true, force: true });
  }
  findings.print();
  return findings.total === 0;
}

let isGood = true;
for (const backend of options.backend === 'both' ? ['redis', 'postgres'] : [options.backend]) {
  isGood = (await rollOut(backend)) && isGood;
}
process.exit(isGood ? 0 : 1);
