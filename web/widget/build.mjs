import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';

/** Makes dist/web/widget.js; src/cli/setup.mjs runs it. */

const inHere = (path) => fileURLToPath(new URL(path, import.meta.url));
/** A style sheet becomes its text. */
const cssText = {
  name: 'css-text',
  setup(building) {
    building.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, 'utf8'), { loader: 'css', minify: true });
      return { contents: code.trimEnd(), loader: 'text' };
    });
  },
};

await build({
  entryPoints: [inHere('widget.ts')],
  outfile: inHere('../../dist/web/widget.js'),
  tsconfigRaw: {}, // whose "strict" would add a directive
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  legalComments: 'none',
  logLevel: 'warning',
  plugins: [cssText],
});
