import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const TIMEOUT_MS = 20_000;

/** Asks processes what they hold when their garbage is gone; they are started with `env`. */
export class Heaps {
  #directory = mkdtempSync(join(tmpdir(), 'assistly-heaps-'));
  env = {
    NODE_OPTIONS: `--expose-gc --import=${new URL('heap-report.mjs', import.meta.url).href}`,
    HEAP_REPORTS: this.#directory,
  };

  /** @param {import("./cluster.mjs").Process} process @returns {Promise<number>} bytes */
  async bytesOf({ name, pid }) {
    const askedAt = Date.now();
    process.kill(pid, 'SIGUSR2');
    while (Date.now() < askedAt + TIMEOUT_MS) {
      await sleep(100);
      try {
        const { at, bytes } = JSON.parse(readFileSync(join(this.#directory, `${pid}.json`), 'utf8'));
        if (at >= askedAt) return bytes;
      } catch (error) {
        if (error.code !== 'ENOENT') throw error;
      }
    }
    throw new Error(`${name} did not report its heap`);
  }

  close() {
    rmSync(this.#directory, { recursive: true });
  }
}
