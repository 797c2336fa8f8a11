import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Preloaded into processes whose memory is measured (`node --expose-gc --import`): at SIGUSR2 it collects the garbage and writes
 * what is left, in bytes. Resident memory says little of a leak: V8 takes what it may before it collects.
 */
process.on('SIGUSR2', () => {
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  const file = join(process.env.HEAP_REPORTS, `${process.pid}.json`);
  writeFileSync(`${file}.part`, JSON.stringify({ at: Date.now(), bytes: heapUsed + external }));
  renameSync(`${file}.part`, file);
});
