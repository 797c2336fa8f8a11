import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * `node deploy/pin-digests.mjs`, in the directory of docker-compose.yml and the Dockerfile: writes behind the tag of each
 * image the digest that the registry has for it now, `name:tag@sha256:…`. One that is there already is looked up again.
 * Nothing is written unless all were found. It needs the `docker` command with buildx, and no running engine.
 *
 * The digest is that of the whole list of platforms, so it serves every machine.
 */

/** What stands before an image, the image with its tag, and the digest. What has no tag is built here, or is a stage. */
const IMAGES = {
  'docker-compose.yml': /^(\s*image:\s+["']?)([^\s@"'#]+:\w[\w.-]*)(@sha256:\w+)?(?=["'\s]|$)/gm,
  Dockerfile: /^(FROM\s+(?:--\S+\s+)*)([^\s@]+:\w[\w.-]*)(@sha256:\w+)?(?=\s|$)/gim,
};

/** @type {Map<string, string>} */
const digests = new Map();

/** @param {string} image with its tag */
function digestOf(image) {
  const known = digests.get(image);
  if (known !== undefined) return known;
  const digest = execFileSync(
    'docker',
    ['buildx', 'imagetools', 'inspect', '--format', '{{.Manifest.Digest}}', image],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  ).trim();
  if (!/^sha256:[\da-f]{64}$/.test(digest)) throw new Error(`docker gave no digest of ${image}: ${digest}`);
  digests.set(image, digest);
  return digest;
}

try {
  const files = Object.entries(IMAGES).map(([path, images]) => {
    const before = readFileSync(path, 'utf8');
    const after = before.replaceAll(images, (_, start, image) => `${start}${image}@${digestOf(image)}`);
    return { path, before, after };
  });
  for (const [image, digest] of digests) console.log(`${image} is ${digest}`);
  for (const { path, before, after } of files) {
    if (after !== before) writeFileSync(path, after);
    console.log(`${path}: ${after === before ? 'unchanged' : 'written'}`);
  }
} catch (error) {
  console.error(`Nothing was written. ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
