import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { GUIDE } from '../../src/openapi/guide.js';
import { PROBLEMS } from '../../src/runtime/app-error.js';
import { leaveStreamsSoon } from '../../web/docs/leave-streams.js';
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

    const parts = [...html.matchAll(/(?:src|href)="([^"#]+)"/g)].map((match) => match[1]!);
    expect(parts.length).toBeGreaterThan(5);
    for (const part of parts) {
      expect(part).toMatch(/^(docs\/assets\/|openapi\.json$)/);
      expect([part, (await fetch(new URL(part, `${url}/docs`))).status]).toEqual([part, 200]);
    }
    expect(html).not.toContain('{{');
    expect(page.headers.get('cache-control')).toBe('no-cache');
    const policy = page.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self';style-src 'self';");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toMatch(/https?:|unsafe/);
  });

  it('stands on a page whose parts come compressed and are kept, and whose address has no slash at its end', async () => {
    const { url } = stack.apis[0]!;
    const html = await (await fetch(`${url}/docs`)).text();
    const script = /docs\/assets\/swagger-ui-bundle-[\d.]+\.js/.exec(html)?.[0];

    for (const [accepted, encoding] of [
      ['br', 'br'],
      ['gzip', 'gzip'],
      ['identity', null],
    ] as const) {
      const { headers } = await fetch(`${url}/${script}`, { headers: { 'accept-encoding': accepted } });
      expect(headers.get('content-encoding')).toBe(encoding);
      expect(headers.get('content-type')).toBe('text/javascript; charset=utf-8');
      expect(headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    }
    const slashed = await fetch(`${url}/docs/`, { redirect: 'manual' });
    expect([slashed.status, slashed.headers.get('location')]).toEqual([302, '../docs']);
  });

  it('stands on a page that shows a stream up to the end of a reply', async () => {
    const chatbot = await stack.owner().createChatbot({ name: 'Bakery' });
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const { reply, cursor } = await guest.postMessage(session.id, 'Hello!');

    const url = `${guest.baseUrl}/v1/sessions/${session.id}/events?after=${cursor}`;
    const { userFetch } = leaveStreamsSoon({ url, method: 'GET' });
    const response = await userFetch!(url, { headers: { authorization: `Bearer ${guest.token}` } });

    expect(response.status).toBe(200);
    expect(await response.text()).toMatch(
      new RegExp(`^retry: 2000\n\n[\\s\\S]*event: reply.completed\ndata: .*"${reply.id}".*\n\n$`),
    );
    const others = leaveStreamsSoon({ url: `${guest.baseUrl}/v1/chatbots`, method: 'GET' });
    expect(others.userFetch).toBeUndefined();
  });

  it('has a chapter about a page to chat on, which names codes and operations that there are', async () => {
    const [, chapter = ''] = /^## A chat page\n(.*?)^## /ms.exec(GUIDE) ?? [];
    const { paths } = (await stack.client().get('/openapi.json')).body;
    const operations = Object.entries<object>(paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );

    const [, errors = ''] = chapter.split('**Errors.**');
    const codes = [...errors.matchAll(/`([a-z]+_[a-z]+)`/g)].map((match) => match[1]);
    expect(codes).toEqual([
      'session_deleted',
      'rate_limited',
      'reply_full',
      'session_full',
      'chatbot_disabled',
    ]);
    expect(Object.keys(PROBLEMS)).toEqual(expect.arrayContaining(codes.slice(1)));
    const named = [...chapter.matchAll(/`((?:GET|POST) \/[^`]+)`/g)].map((match) => match[1]);
    expect(named.length).toBeGreaterThan(0);
    expect(operations).toEqual(expect.arrayContaining(named));
  });
});
