import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { readText, ROOT } from '../support/deploy-files.mjs';

const PROGRAM = join(ROOT, 'deploy/pin-digests.mjs');
const FILES = ['docker-compose.yml', 'Dockerfile'] as const;
const DIGEST = /@sha256:[\da-f]{64}/g;

/** A directory with the files, and a `docker` that answers with a digest for each image that it is asked for. */
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'assistly-digests-'));
  await mkdir(join(directory, 'bin'));
  for (const file of FILES) await writeFile(join(directory, file), readText(file).replaceAll(DIGEST, ''));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** @param answers what stands for each image: a digest is made of it; null where the registry has none */
async function haveDocker(answers: Record<string, string | null>): Promise<void> {
  const cases = Object.entries(answers).map(([image, hex]) =>
    hex === null
      ? `${image}) echo "ERROR: $6: not found" >&2; exit 1 ;;`
      : `${image}) echo sha256:${hex.repeat(64)} ;;`,
  );
  const script = `#!/bin/sh
echo "$*" >> "${join(directory, 'asked')}"
[ "$1 $2 $3 $4 $5" = 'buildx imagetools inspect --format {{.Manifest.Digest}}' ] || exit 2
case "$6" in
${cases.join('\n')}
*) exit 3 ;;
esac
`;
  await writeFile(join(directory, 'bin/docker'), script, { mode: 0o755 });
}

async function pin(): Promise<{ code: number; output: string }> {
  const env = { PATH: [join(directory, 'bin'), '/usr/bin', '/bin'].join(delimiter) };
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM], { cwd: directory, env });
    return { code: 0, output: stdout };
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string };
    return { code, output: stderr };
  }
}

const read = (): Promise<string[]> =>
  Promise.all(FILES.map((file) => readFile(join(directory, file), 'utf8')));

/** The images of the files that are in a registry, each once. */
const images = [
  ...new Set(
    FILES.flatMap((file) =>
      [...readText(file).matchAll(/^(?:\s*image: |FROM )([^\s@]+:[^\s@]+)/gm)].map(([, image = '']) => image),
    ),
  ),
];
const all = (hex: string): Record<string, string> => Object.fromEntries(images.map((image) => [image, hex]));

describe('node deploy/pin-digests.mjs', () => {
  it('writes the digest behind the tag of every image, and changes nothing else', async () => {
    const before = await read();
    await haveDocker(all('a'));

    const { code, output } = await pin();

    expect(code).toBe(0);
    expect(images).toHaveLength(3);
    const after = await read();
    const text = after.join();
    for (const image of images) {
      expect(text).toContain(`${image}@sha256:${'a'.repeat(64)}`);
      expect(output).toContain(`${image} is sha256:`);
    }
    expect(text.match(DIGEST)).toHaveLength(3);
    expect(after.map((file) => file.replaceAll(DIGEST, ''))).toEqual(before);
    // What is built here, or is a stage of the Dockerfile, is in no registry.
    expect(text).toMatch(/^ {2}image: assistly-backend$/m);
    expect(text).toMatch(/^FROM base AS build$/m);
  });

  it('writes nothing where the digests are those already, and the new one where a tag has moved', async () => {
    await haveDocker(all('a'));
    await pin();
    const pinned = await read();

    const { output } = await pin();
    expect(output).toContain('docker-compose.yml: unchanged\nDockerfile: unchanged\n');
    expect(await read()).toEqual(pinned);

    await haveDocker(all('b'));
    await pin();
    const digests = (await read()).join().match(DIGEST);
    expect(digests).toEqual(images.map(() => `@sha256:${'b'.repeat(64)}`));
    const asked = (await readFile(join(directory, 'asked'), 'utf8')).trim().split('\n');
    expect(asked).toHaveLength(3 * images.length);
    expect(asked.join()).not.toContain('@');
  });

  it('writes to neither file where one image is not found, docker is not there, or gives no digest', async () => {
    const before = await read();
    const last = images.at(-1)!;

    await haveDocker({ ...all('a'), [last]: null });
    expect(await pin()).toEqual({ code: 1, output: expect.stringContaining(`${last}: not found`) });
    await haveDocker({ ...all('a'), [last]: 'x' });
    expect(await pin()).toEqual({ code: 1, output: expect.stringContaining(`no digest of ${last}`) });
    await rm(join(directory, 'bin/docker'));
    expect(await pin()).toEqual({ code: 1, output: expect.stringContaining('Nothing was written.') });

    expect(await read()).toEqual(before);
  });
});
