import { existsSync, globSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import linter from '../../oxlint.config.js';
import { readText, ROOT } from '../support/deploy-files.mjs';

const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'bench/README.md',
  'client/README.md',
  'test/chaos/README.md',
  ...globSync('deploy/*.md', { cwd: ROOT }),
];
const { scripts } = JSON.parse(readText('package.json'));

/** What the text names, each once. */
const named = (text: string, pattern: RegExp): string[] => [
  ...new Set([...text.matchAll(pattern)].map(([, name = '']) => name)),
];

/** The anchors of a document's headings, as GitHub makes them. */
const anchorsOf = (document: string): string[] =>
  named(readText(document), /^#+ (.+)$/gm).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, '')
      .replaceAll(' ', '-'),
  );

describe.each(DOCUMENTS)('%s', (document) => {
  const text = readText(document);

  it('names files and folders that there are', () => {
    const paths = named(text, /(?<![\w/.-])((?:src|test|deploy|bench|dist\/src)\/[\w*./-]*[\w*/])/g);
    const sources = paths.map((path) => path.replace(/^dist\/(.*)\.js$/, '$1.ts'));

    // A test may be named without its ending, as on the command line.
    const isThere = (path: string): boolean => globSync([path, `${path}.test.ts`], { cwd: ROOT }).length > 0;
    expect(sources.filter((path) => !isThere(path))).toEqual([]);
  });

  it('names tests that there are', () => {
    const tests = [
      ...named(text, /`((?:unit|integration|e2e\/long|e2e|api)\/[\w*-]+)`/g).map(
        (name) => `test/${name}.test.ts`,
      ),
      ...named(text, /`([\w-]+\.test\.ts)`/g).map((name) => `test/**/${name}`),
    ];

    expect(tests.filter((path) => globSync(path, { cwd: ROOT }).length === 0)).toEqual([]);
  });

  it('names commands that there are', () => {
    const commands = named(text, /npm run (?:-s )?([a-z][\w:-]*)/g);

    expect(commands.filter((command) => scripts[command] === undefined)).toEqual([]);
  });

  it('leads to pages, and to headings of them, that there are', () => {
    const broken = named(text, /\]\(([^)]+)\)/g).filter((link) => {
      if (/^https?:/.test(link)) return false;
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? document : normalize(join(dirname(document), path));
      return !existsSync(join(ROOT, target)) || (anchor !== undefined && !anchorsOf(target).includes(anchor));
    });

    expect(broken).toEqual([]);
  });
});

describe('CONTRIBUTING.md', () => {
  it('has a line for each folder of src, in the order in which they may import each other', () => {
    const [, section = ''] = readText('CONTRIBUTING.md').split('\n### Folders\n');
    const rows = named(section.split('\n### ')[0] ?? '', /^\| (`.+?)\|/gm);
    const described = rows.flatMap((cell) => named(cell, /`([\w-]+)\/`/g));
    const ruled = (linter.overrides ?? [])
      .filter(({ rules }) => rules?.['no-restricted-imports'] !== undefined)
      .flatMap(({ files }) => named(files.join('\n'), /^src\/([\w-]+)\/\*\*$/gm));
    const folders = ruled.filter((folder) => existsSync(join(ROOT, 'src', folder)));

    expect(folders.length).toBeGreaterThan(10);
    expect(described.filter((folder) => folders.includes(folder))).toEqual(folders);
  });
});
