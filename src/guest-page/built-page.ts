import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { constants, brotliCompress, gzip } from 'node:zlib';
import type { Request, Response } from 'express';

/** Where the build puts the page, seen from the built server and from its sources. */
const DIRECTORY = ['../../../web/dist/', '../../web/dist/']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find(existsSync);

const TYPES: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
};

export interface Asset {
  type: string;
  plain: Buffer;
  gzip: Buffer;
  br: Buffer;
}

/** The page as `web/` is built: read once, and small enough to be kept. */
export interface BuiltPage {
  /** By file name. */
  assets: ReadonlyMap<string, Asset>;
  /** By file name, without `.html`: `index.en`. */
  templates: ReadonlyMap<string, string>;
  /** English first. */
  languages: readonly string[];
}

/** @param quality of Brotli: 11 is the smallest, and takes seconds for a megabyte */
export async function readAsset(path: string, quality = 10): Promise<Asset> {
  const plain = readFileSync(path);
  const [zipped, br] = await Promise.all([
    promisify(gzip)(plain, { level: 9 }),
    promisify(brotliCompress)(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: quality } }),
  ]);
  return { type: TYPES[extname(path)] ?? 'application/octet-stream', plain, gzip: zipped, br };
}

/** Sends what has a hash or a version of itself in its name, so that it is kept for ever. */
export function sendAsset(request: Request, response: Response, asset: Asset): void {
  const encoding = request.acceptsEncodings('br', 'gzip', 'identity');
  response.setHeader('Cache-Control', 'public, max-age=31536000, immutable');
  response.setHeader('Content-Type', asset.type);
  response.setHeader('Vary', 'Accept-Encoding');
  if (encoding === 'br' || encoding === 'gzip') response.setHeader('Content-Encoding', encoding);
  response.end(encoding === 'br' ? asset.br : encoding === 'gzip' ? asset.gzip : asset.plain);
}

/** @param part the directory of another page than the guests' */
export async function readBuiltPage(part = '.'): Promise<BuiltPage> {
  if (DIRECTORY === undefined) throw new Error('web/dist is missing: run npm run build');
  const directory = join(DIRECTORY, part);
  const assets = new Map<string, Asset>();
  for (const name of readdirSync(join(directory, 'assets'))) {
    assets.set(name, await readAsset(join(directory, 'assets', name)));
  }
  const templates = new Map(
    readdirSync(directory)
      .filter((name) => name.endsWith('.html'))
      .map((name) => [name.slice(0, -'.html'.length), readFileSync(join(directory, name), 'utf8')]),
  );
  const languages = [...templates.keys()]
    .filter((name) => name.startsWith('index.'))
    .map((name) => name.slice('index.'.length))
    .sort((a, b) => Number(b === 'en') - Number(a === 'en'));
  return { assets, templates, languages };
}
