import { build } from 'esbuild';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import { contract } from '../support/contract.js';
import { readText, ROOT } from '../support/deploy-files.mjs';

const manifest = JSON.parse(readText('client/package.json'));
const root = JSON.parse(readText('package.json'));

/** A program that uses the package, as a page loads it: minified and compressed, in bytes. */
async function sizeOf(program: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: ROOT },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  return gzipSync(outputFiles[0]!.contents).length;
}

describe('the generated part of the client', () => {
  it('has a function for every operation', async () => {
    const api = await import('assistly-client/api');
    const ids = Object.values<Record<string, { operationId?: string }>>(contract.paths).flatMap((methods) =>
      Object.values(methods).flatMap(({ operationId }) => operationId ?? []),
    );

    expect(ids.length).toBeGreaterThan(20);
    for (const id of ids)
      expect([id, api]).toEqual([id, expect.objectContaining({ [id]: expect.any(Function) })]);
  });
});

describe('the package', () => {
  it('has the version of the product, and its one dependency too', () => {
    expect(manifest.version).toBe(root.version);
    expect(manifest.dependencies).toEqual({
      'eventsource-parser': root.dependencies['eventsource-parser'],
    });
  });

  it('has all that its exports name, JavaScript and types', () => {
    const files = Object.values<string | Record<string, string>>(manifest.exports).flatMap((to) =>
      typeof to === 'string' ? [] : Object.values(to),
    );

    expect(files.length).toBe(8);
    for (const file of files) expect(globSync(file, { cwd: join(ROOT, 'client') })).toHaveLength(1);
  });

  it('is at most 10 kB for a chat, and 14 kB with every route', async () => {
    const chat = `import { createChat } from 'assistly-client'; console.log(createChat);`;
    const everything = `${chat} import * as api from 'assistly-client/api'; console.log(api);`;

    expect(await sizeOf(chat)).toBeLessThanOrEqual(10_000);
    expect(await sizeOf(everything)).toBeLessThanOrEqual(14_000);
  });
});
