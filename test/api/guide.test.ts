import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { runInThisContext } from 'node:vm';
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

  it('stands on a page that needs no other server, and may not be framed', async () => {
    const { url } = stack.apis[0]!;
    const page = await fetch(`${url}/docs`);
    const html = await page.text();

    const parts = [...html.matchAll(/(?:src|href)=["']([^"']+)["']/g)].map((match) => match[1]!);
    expect(parts.length).toBeGreaterThan(3);
    for (const part of parts) {
      expect(part).toMatch(/^\.\/docs\//);
      expect([part, (await fetch(new URL(part, `${url}/`))).status]).toEqual([part, 200]);
    }
    const policy = page.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/https?:|script-src[^;]*unsafe/);
  });

  it('stands on a page that shows a stream up to the end of a reply', async () => {
    const script = await (await fetch(`${stack.apis[0]!.url}/docs/swagger-ui-init.js`)).text();
    const source = /"requestInterceptor": (function [\s\S]*?\n\})\n/.exec(script)?.[1] ?? '';
    const intercept = runInThisContext(`(${source})`) as (request: object) => { userFetch: typeof fetch };
    const chatbot = await stack.owner().createChatbot({ name: 'Bakery' });
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const { reply, cursor } = await guest.postMessage(session.id, 'Hello!');

    const url = `${guest.baseUrl}/v1/sessions/${session.id}/events?after=${cursor}`;
    const { userFetch } = intercept({ url, method: 'GET' });
    const response = await userFetch(url, { headers: { authorization: `Bearer ${guest.token}` } });

    expect(response.status).toBe(200);
    expect(await response.text()).toMatch(
      new RegExp(`^retry: 2000\n\n[\\s\\S]*event: reply.completed\ndata: .*"${reply.id}".*\n\n$`),
    );
    expect(intercept({ url: `${guest.baseUrl}/v1/chatbots`, method: 'GET' }).userFetch).toBeUndefined();
  });
});
