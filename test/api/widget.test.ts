import { execFile } from 'node:child_process';
import { get, type IncomingHttpHeaders } from 'node:http';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readText, ROOT } from '../support/deploy-files.mjs';
import { Stack } from '../support/stack.js';

let stack: Stack;
let url: string;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0, env: { CORS_ORIGINS: 'https://good.com' } });
  url = `${stack.apis[0]!.url}/widget.js`;
});
afterAll(() => stack.stop());

/** As it comes, without what `fetch` takes off. */
const load = (headers: Record<string, string> = {}) =>
  new Promise<{ status: number | undefined; headers: IncomingHttpHeaders; body: Buffer }>(
    (resolve, reject) => {
      get(url, { headers }, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () =>
          resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }),
        );
      }).on('error', reject);
    },
  );

describe('GET /widget.js', () => {
  const script = readText('dist/web/widget.js');

  it('gives pages of any origin the script, to keep for five minutes', async () => {
    const { status, headers, body } = await load({ origin: 'https://anybody.example' });

    expect(status).toBe(200);
    expect(body.toString()).toBe(script);
    expect(headers).toMatchObject({
      'content-type': 'text/javascript; charset=utf-8',
      'cache-control': 'public, max-age=300',
      'cross-origin-resource-policy': 'cross-origin',
      'access-control-allow-origin': '*', // for `integrity`, which needs `crossorigin`
      'x-content-type-options': 'nosniff',
      vary: 'Accept-Encoding',
    });
    expect(headers['content-encoding']).toBeUndefined();
    expect(headers['set-cookie']).toBeUndefined();
  });

  it('is at most 2 kB for who takes gzip', async () => {
    const { headers, body } = await load({ 'accept-encoding': 'gzip, br' });

    expect(headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' });
    expect(body.length).toBeLessThanOrEqual(2_000);
    expect(gunzipSync(body).toString()).toBe(script);
  });

  it.each(['identity', 'gzip'])('answers 304 to who has it already, as %s', async (encoding) => {
    const first = await load({ 'accept-encoding': encoding });

    const again = await load({ 'accept-encoding': encoding, 'if-none-match': first.headers.etag! });

    expect([again.status, again.body.length]).toEqual([304, 0]);
    const other = await load({
      'accept-encoding': encoding === 'gzip' ? 'identity' : 'gzip',
      'if-none-match': first.headers.etag!,
    });
    expect(other.status).toBe(200);
  });

  it('is there in production, without the documentation', async () => {
    const { url: production } = await stack.addApi({
      NODE_ENV: 'production',
      CLERK_SECRET_KEY: 'sk_test_1',
      DATABASE_URL: stack.database.url,
    });

    expect((await fetch(`${production}/widget.js`)).status).toBe(200);
    expect((await fetch(`${production}/docs`)).status).toBe(404);
  });

  it('takes nothing', async () => {
    const response = await fetch(url, { method: 'POST' });

    expect([response.status, await response.json()]).toEqual([
      404,
      expect.objectContaining({ code: 'not_found' }),
    ]);
    expect((await fetch(url, { method: 'HEAD' })).status).toBe(200);
  });
});

describe('deploy/widget.md', () => {
  const document = readText('deploy/widget.md');

  it('shows a server how to vouch for a person', async () => {
    const [, program = ''] = /^```js\n(import .*?)^```$/ms.exec(document) ?? [];
    const owner = stack.owner();
    const { id } = await owner.createChatbot({ name: 'Bakery' });
    const { secret } = (await owner.post(`/v1/chatbots/${id}/identity-secret`)).body;
    const person = { id: 'user-7', name: 'Ada', email: 'ada@example.com' };

    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        `${program}\nprocess.stdout.write(await assistlyToken(${JSON.stringify(person)}));`,
      ],
      {
        cwd: ROOT,
        env: { ...process.env, ASSISTLY_CHATBOT_ID: id, ASSISTLY_IDENTITY_SECRET: secret },
      },
    );

    const { status, body } = await stack.client().as(stdout).post(`/v1/chatbots/${id}/sessions`);
    expect(status).toBe(201);
    expect(body.session.guest).toMatchObject({ externalId: 'user-7', name: 'Ada', email: 'ada@example.com' });
  });

  it('names every attribute and every call of the widget', () => {
    const source = readText('web/widget/widget.ts');
    const membersOf = (name: string): string[] =>
      [
        ...(new RegExp(`interface ${name} \\{(.*?)\\n\\}`, 's').exec(source)?.[1] ?? '').matchAll(
          /^  (\w+)\??:/gm,
        ),
      ].map(([, member = '']) => member);
    const calls = membersOf('Widget');
    const attributes = membersOf('Options');

    expect([calls.length, attributes.length]).toEqual([10, 6]);
    for (const call of calls.filter((name) => name !== 'push')) expect(document).toContain(`\`${call}(`);
    for (const attribute of attributes) expect(document).toContain(`| \`data-${attribute}\` `);
  });
});
