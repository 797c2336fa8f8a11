// `npm run bench`: what the product does in a second and what it costs, beside what its parts alone would do, in one run. See
// README.md. Needs a built product; starts a PostgreSQL and, where there is one, a Redis of its own, and speaks to nobody else.
import { parseArgs } from 'node:util';
import { atRest } from './lib/at-rest.mjs';
import { beside } from './lib/beside.mjs';
import { firstToken } from './lib/first-token.mjs';
import { growth } from './lib/growth.mjs';
import { pages } from './lib/pages.mjs';
import { posts } from './lib/posts.mjs';
import { startProgram } from './lib/program.mjs';
import { replies } from './lib/replies.mjs';
import { Report } from './lib/report.mjs';
import { sizes } from './lib/sizes.mjs';
import { speaking } from './lib/speaking.mjs';
import { statements } from './lib/statements.mjs';
import { stored } from './lib/stored.mjs';
import { startStores } from './lib/stores.mjs';
import { openStreams } from './lib/streams.mjs';

/** @type {Record<string, { measure: import('./lib/run.mjs').Section, isOnce?: boolean, isAsked?: boolean }>} isOnce: whatever the
 * backend; isAsked: only where it is named */
const SECTIONS = {
  posts: { measure: posts },
  replies: { measure: replies },
  'first-token': { measure: firstToken },
  speaking: { measure: speaking },
  streams: { measure: openStreams },
  pages: { measure: pages, isOnce: true },
  statements: { measure: statements },
  growth: { measure: growth },
  'at-rest': { measure: atRest },
  stored: { measure: stored, isAsked: true },
  sizes: { measure: sizes, isOnce: true, isAsked: true },
  beside: { measure: beside, isAsked: true },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    streams: { type: 'string', default: '2000' },
    backend: { type: 'string' },
    sizes: { type: 'boolean', default: false },
  },
});
for (const name of positionals) {
  if (!SECTIONS[name]) throw new Error(`${name} is no section: ${Object.keys(SECTIONS).join(', ')}`);
}
const wanted =
  positionals.length > 0 ? positionals : Object.keys(SECTIONS).filter((name) => !SECTIONS[name]?.isAsked);
if (values.sizes) wanted.push('sizes');

/** @param {(onEnd: (end: () => Promise<unknown>) => void) => Promise<void>} work */
async function withEnds(work) {
  /** @type {(() => Promise<unknown>)[]} */
  const ends = [];
  try {
    await work((end) => ends.unshift(end));
  } finally {
    for (const end of ends) await end();
  }
}

const report = new Report();
await withEnds(async (onEnd) => {
  const streams = Number(values.streams);
  const stores = await startStores({ sessions: Math.max(streams, 1_000) });
  onEnd(() => stores.stop());
  const model = await startProgram('model.mjs');
  onEnd(model.stop);
  console.log(`PostgreSQL ${stores.version}, Node.js ${process.version}`);
  for (const name of wanted) {
    const { measure, isOnce = false } = SECTIONS[name];
    const backends = stores.backends.filter((one) => !values.backend || one.name === values.backend);
    for (const backend of isOnce ? backends.slice(0, 1) : backends) {
      const begun = performance.now();
      console.log(`\n${name}${isOnce ? '' : `, ${backend.name}`}`);
      await withEnds((onSectionEnd) =>
        measure({
          stores,
          backend,
          report,
          streams,
          modelUrl: model.started.url,
          rounds: Number(values.rounds),
          onEnd: onSectionEnd,
        }),
      );
      console.log(`  (${((performance.now() - begun) / 1_000).toFixed(0)} s)`);
    }
  }
});
report.print();
