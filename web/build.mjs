import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';

/**
 * Builds the guests' page into `web/dist`: `assets/`, each file with a hash of its content in its name, and the HTML of each
 * language, in which `{{…}}` is for the api to fill. And the documentation's page into `web/dist/docs`, likewise.
 */

const root = import.meta.dirname;
const LANGUAGES = ['en', 'de', 'fr', 'es', 'ar'];

const escape = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
/** @param values for each `%name%` of a template */
const fill = (template, values) =>
  template.replace(/%(\w+)%/g, (whole, name) => {
    if (values[name] === undefined) throw new Error(`web: nothing for ${whole}`);
    return values[name];
  });
const read = (path) =>
  readFileSync(join(root, path), 'utf8')
    .replace(/>\s+</g, '><')
    .replace(/(<style>)\s+(\S+)\s+(<\/style>)/g, '$1$2$3') // its hash is that of the text alone
    .replace(/>\s+(%\w+%)\s+</g, '>$1<')
    .trim();

const dist = join(root, 'dist');
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);

/**
 * Of `marked` only the lexer is wanted. Its file ends with a ready-made instance of all the rest, which no bundler can drop
 * by itself: without that ending it can.
 */
const onlyTheLexer = {
  name: 'only-the-lexer',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]marked\.esm\.js$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8');
      const end = source.search(/var \w+=new \w+;function \w+\(\w+,\w+\)\{return \w+\.parse\(/);
      const lexer = /(\w+) as Lexer\b/.exec(source.slice(source.lastIndexOf('export{')))?.[1];
      if (end === -1 || lexer === undefined) throw new Error('web: this marked is built in another way');
      return { contents: `${source.slice(0, end)}export{${lexer} as Lexer};` };
    });
  },
};

const options = {
  absWorkingDir: root,
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  loader: { '.svg': 'copy' },
  bundle: true,
  splitting: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  alias: { 'assistly-client': '../client/src/index.ts' }, // its sources, which are there before it is built
  plugins: [onlyTheLexer],
  legalComments: 'linked',
  metafile: true,
};
const [guests, docs] = await Promise.all([
  build({
    ...options,
    entryPoints: ['src/main.tsx', 'src/style.css', 'src/start.css', 'src/icon.svg'],
    outdir: 'dist/assets',
  }),
  build({
    ...options,
    entryPoints: ['docs/docs.ts', 'docs/docs.css', 'src/icon.svg'],
    outdir: 'dist/docs/assets',
  }),
]);

const outputs = [guests, docs].flatMap(({ metafile }) => Object.entries(metafile.outputs));
const outputOf = (source) => {
  const found = outputs.find(([, { entryPoint, inputs }]) =>
    entryPoint ? entryPoint === source : Object.keys(inputs).includes(source),
  );
  if (!found) throw new Error(`web: nothing was built of ${source}`);
  return found;
};
const nameOf = (source) => basename(outputOf(source)[0]);

const shared = outputOf('src/main.tsx')[1].imports.filter(({ kind }) => kind === 'import-statement');
const files = {
  script: nameOf('src/main.tsx'),
  style: nameOf('src/style.css'),
  startStyle: nameOf('src/start.css'),
  icon: nameOf('src/icon.svg'),
  preloads: shared.map(({ path }) => `<link rel="modulepreload" href="assets/${basename(path)}" />`).join(''),
};

for (const language of LANGUAGES) {
  const { words } = await import(`./src/languages/${language}.ts`); // Node.js takes the types off
  const escaped = Object.fromEntries(Object.entries(words).map(([name, text]) => [name, escape(text)]));
  const values = { ...escaped, ...files, language, words: nameOf(`src/languages/${language}.ts`) };
  writeFileSync(join(dist, `index.${language}.html`), fill(read('index.html'), values));
  for (const name of ['notFound', 'notAllowed', 'unavailable']) {
    const notice = fill(read('notice.html'), { ...values, sentence: escaped[name] });
    writeFileSync(join(dist, `${name}.${language}.html`), notice);
  }
}

// The page that `/` is on a person's own machine, with what there is to lead to.
const demo = '<li><a href="{{chat}}">Chat</a><span>a bakery’s chatbot, to try it out</span></li>';
const board =
  '<li><a href="{{board}}">Queue board</a><span>the jobs; name and password are in the terminal</span></li>';
for (const [name, parts] of Object.entries({
  start: { demo: '', board: '' },
  'start-board': { demo: '', board },
  'start-demo': { demo, board: '' },
  'start-demo-board': { demo, board },
})) {
  writeFileSync(join(dist, `${name}.html`), fill(read('start.html'), { ...files, ...parts }));
}

const docsFiles = { script: nameOf('docs/docs.ts'), style: nameOf('docs/docs.css'), icon: files.icon };
writeFileSync(join(dist, 'docs', 'docs.html'), fill(read('docs/docs.html'), docsFiles));
