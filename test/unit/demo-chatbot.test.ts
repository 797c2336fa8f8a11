import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { demoChatbot } from '../../src/dev/demo-chatbot.js';

describe('the demo’s chatbot', () => {
  let directory: string;
  const made = new Set<string>();
  const start = (): Promise<string | null> =>
    demoChatbot({
      directory,
      create: () => {
        const id = `id ${made.size + 1}`;
        made.add(id);
        return Promise.resolve(id);
      },
      exists: (id) => Promise.resolve(made.has(id)),
    });
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'assistly-demo-'));
    made.clear();
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('is made once for each database', async () => {
    expect([await start(), await start()]).toEqual(['id 1', 'id 1']);
    expect(made.size).toBe(1);
  });

  it('does not come back when it was deleted', async () => {
    await start();
    made.clear();
    expect(await start()).toBeNull();
    expect(made.size).toBe(0);
  });
});
