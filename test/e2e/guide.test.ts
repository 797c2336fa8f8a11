import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { GUIDE } from '../../src/openapi/guide.js';
import { Stack } from '../support/stack.js';

describe('the guide at /docs', () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = await Stack.start();
  });
  afterAll(() => stack.stop());

  it('has a program that goes from a token to a streamed reply, stops one, and asks again', async () => {
    const pieces = [...GUIDE.matchAll(/^~~~js\n(.*?)^~~~$/gms)].map((match) => match[1]);
    const program = pieces
      .join('\n')
      .replace('http://localhost:3000', stack.apis[0]!.url)
      .replace('<owner token>', stack.ownerToken());

    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        '--experimental-eventsource',
        '--disable-warning=ExperimentalWarning',
        '--input-type=module',
        '--eval',
        program,
      ],
      { timeout: 30_000 },
    );

    const answer = 'We are open from 7 to 18, Monday to Saturday.';
    const lines = stdout.trimEnd().split('\n');
    expect(lines.filter((line) => line.startsWith('reply.delta')).length).toBeGreaterThan(1);
    expect(lines).toContain(`reply.completed ${answer}`);
    expect(lines).toContain(`completed ${answer}`);
    expect(lines.slice(-2)).toEqual(['cancelled', 'completed true']);
  });

  it('names operations as the document does', async () => {
    const { paths } = (await stack.client().get('/openapi.json')).body;
    const operations = Object.entries<Record<string, { summary: string }>>(paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, { summary }]) => `${summary}*, \`${method.toUpperCase()} ${path}\``),
    );
    const named = [...GUIDE.matchAll(/^\d\. \*([^*]+\*, `[^`]+`)/gm)].map((match) => match[1]);
    expect(named).toHaveLength(5);
    expect(operations).toEqual(expect.arrayContaining(named));
  });
});
