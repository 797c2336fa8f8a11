import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import { welcome, type WelcomeFacts } from '../../src/dev/welcome.js';
import { ROOT } from '../support/deploy-files.mjs';

const SIZE_LIMIT = 60_000;

/** The documentation's page as it is built. In a browser: test/integration/docs-in-browser. */
describe('the page at /docs', () => {
  it('is small, beside Swagger UI', () => {
    const directory = join(ROOT, 'web/dist/docs/assets');
    const sizes = readdirSync(directory)
      .filter((name) => /\.(js|css)$/.test(name))
      .map((name) => gzipSync(readFileSync(join(directory, name)), { level: 9 }).length);

    expect(sizes).toHaveLength(2);
    expect(sizes[0]! + sizes[1]!).toBeLessThan(SIZE_LIMIT);
  });
});

describe('the address of the documentation after npm start', () => {
  const facts: WelcomeFacts = {
    url: 'http://localhost:3000',
    isTerminal: false,
    chat: null,
    missing: [],
    ownerToken: 'eyJ.a.b',
    board: null,
    database: 'embedded',
    model: 'none',
  };

  it('brings the owner token along, where a terminal can hide it behind the address', () => {
    expect(welcome({ ...facts, isTerminal: true })).toContain(
      '  Documentation  \u001b]8;;http://localhost:3000/docs#owner-token=eyJ.a.b\u001b\\http://localhost:3000/docs\u001b]8;;\u001b\\\n',
    );
  });

  it('is plain where there is no terminal, or no token', () => {
    for (const some of [{}, { isTerminal: true, ownerToken: null }]) {
      expect(welcome({ ...facts, ...some })).toContain('  Documentation  http://localhost:3000/docs\n');
    }
  });
});
