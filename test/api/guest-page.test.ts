import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Json } from '../support/api-client.js';
import { Stack } from '../support/stack.js';

/** The guests' page as the api serves it. How it works in a browser: test/integration/guest-page-in-browser. */

let stack: Stack;
let url: string;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
  url = stack.apis[0]!.url;
});
afterAll(() => stack.stop());

const create = (settings: object = {}): Promise<Json> =>
  stack.owner().createChatbot({ name: 'Bakery', greeting: 'Hello{name}!', ...settings });

async function open(
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ response: Response; html: string; policy: string }> {
  const response = await fetch(url + path, { method, headers, redirect: 'manual' });
  return {
    response,
    html: await response.text(),
    policy: response.headers.get('content-security-policy') ?? '',
  };
}

describe('GET /c/:chatbotId', () => {
  it('has title, name, greeting and accent in it, before any script', async () => {
    const { id } = await create({ appearance: { title: 'The bakery', color: '#0a7f5a' } });
    const { response, html } = await open(`/c/${id}`);

    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-cache');
    expect(response.headers.get('vary')).toBe('Accept-Language');
    expect(html).toContain('<title>The bakery</title>');
    expect(html).toContain('<h1 dir="auto">The bakery</h1>');
    expect(html).toContain('>Hello!</div>');
    expect(html).toContain('--accent:#0a7f5a');
    expect(html).not.toContain('{{');
  });

  it('shows whatever an owner has written as text', async () => {
    const hostile = `</title><script>alert(1)</script>"'{{accent}}`;
    const { id } = await create({ name: hostile, greeting: `${hostile}<img src=x onerror=alert(1)>` });
    const { html } = await open(`/c/${id}`);

    expect(html.match(/<script/g)).toHaveLength(1);
    expect(html).not.toContain('<img');
    expect(html).toContain(
      '<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;{{accent}}</title>',
    );
  });

  it('may be embedded by any page, or by those that its chatbot allows', async () => {
    const open1 = await open(`/c/${(await create()).id}`);
    expect(open1.policy).toContain('frame-ancestors *;');
    expect(open1.response.headers.get('x-frame-options')).toBeNull();

    const allowedOrigins = ['https://shop.example', 'https://*.example.com'];
    const { policy } = await open(`/c/${(await create({ allowedOrigins })).id}`);
    expect(policy).toContain("frame-ancestors 'self' https://shop.example https://*.example.com;");
  });

  it.each<[string, Record<string, string>, string, number]>([
    [
      'one that is listed',
      { referer: 'https://shop.example/bread?a=1', 'sec-fetch-dest': 'iframe' },
      '',
      200,
    ],
    ['one below a name', { referer: 'https://a.example.com/', 'sec-fetch-dest': 'iframe' }, '', 200],
    [
      'one that is listed with http:',
      { referer: 'https://old.example/', 'sec-fetch-dest': 'iframe' },
      '',
      200,
    ],
    ['another', { referer: 'https://other.example/', 'sec-fetch-dest': 'iframe' }, '', 403],
    ['another, where the browser does not say that it is one', { referer: 'http://other' }, '?embed=1', 403],
    ['one that keeps its address to itself', { 'sec-fetch-dest': 'iframe' }, '?embed=1', 200],
    ['one whose address is none', { referer: 'about:client', 'sec-fetch-dest': 'iframe' }, '', 200],
    [
      'one that only links to it',
      { referer: 'https://other.example/', 'sec-fetch-dest': 'document' },
      '',
      200,
    ],
    ['one that links to it without saying so', { referer: 'https://other.example/' }, '', 200],
  ])(
    'has a sentence for the visitors of a page that may not embed it: %s',
    async (_who, headers, query, status) => {
      const allowedOrigins = ['https://shop.example', 'https://*.example.com', 'http://old.example'];
      const { id } = await create({ allowedOrigins });
      const { response, html, policy } = await open(`/c/${id}${query}`, {
        'accept-language': 'de',
        ...headers,
      });

      expect(response.status).toBe(status);
      expect(html.includes('Dieser Chat ist auf dieser Website nicht verfügbar.')).toBe(status === 403);
      expect(policy.includes('frame-ancestors *')).toBe(status === 403); // the sentence may be seen anywhere
      expect(policy.includes('script-src')).toBe(status === 200);
    },
  );

  it('may be embedded by the api’s own pages, and where its chatbot names nobody by every page', async () => {
    const own = { referer: `${url}/docs`, 'sec-fetch-dest': 'iframe' };
    const { id } = await create({ allowedOrigins: ['https://shop.example'] });
    expect((await open(`/c/${id}`, own)).response.status).toBe(200);

    const other = { referer: 'https://other.example/', 'sec-fetch-dest': 'iframe' };
    expect((await open(`/c/${(await create()).id}`, other)).response.status).toBe(200);
  });

  it('gets its picture from where its chatbot’s is, and nothing else from elsewhere', async () => {
    const { id } = await create({ appearance: { avatarUrl: 'https://cdn.example/a.png' } });
    const { policy } = await open(`/c/${id}`);

    expect(policy).toMatch(
      /^default-src 'none'; script-src 'self'; style-src 'self' 'sha256-[\w+/=]+'; connect-src 'self'; img-src 'self' https:\/\/cdn\.example;/,
    );
    expect(policy).not.toMatch(/unsafe|data:|blob:/);
  });

  it('is in the language of the browser', async () => {
    const { id } = await create();
    expect((await open(`/c/${id}`, { 'accept-language': 'ar-EG, en;q=0.5' })).html).toContain(
      '<html lang="ar" dir="rtl"',
    );
    expect((await open(`/c/${id}`, { 'accept-language': 'ja' })).html).toContain('<html lang="en" dir="ltr"');
  });

  it('answers HEAD', async () => {
    const { response, html } = await open(`/c/${(await create()).id}`, {}, 'HEAD');
    expect([response.status, html]).toEqual([200, '']);
  });

  it.each([
    '01999999-9999-7999-8999-999999999999',
    'nothing',
    '%00',
    '..%2f..%2fpackage.json',
    'a'.repeat(5_000),
  ])('says in a sentence that there is no chat at %s', async (id) => {
    const { response, html, policy } = await open(`/c/${id}`, { 'accept-language': 'de' });
    expect(response.status).toBe(404);
    expect(html).toContain('Unter dieser Adresse gibt es keinen Chat.');
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('script-src');
  });

  it('is a page of its own for a chatbot that is switched off: the guest is told there', async () => {
    const { id } = await create({ isEnabled: false });
    expect((await open(`/c/${id}`)).response.status).toBe(200);
  });

  it('has nothing below it', async () => {
    const { id } = await create();
    for (const path of [`/c/${id}/`, `/c/${id}/more`, '/c', '/c/']) {
      const { response } = await open(path);
      expect(response.status).toBe(404);
      expect(response.headers.get('content-type')).toContain('application/problem+json');
    }
  });
});

describe('GET /c/assets/:name', () => {
  async function namesOn(path: string): Promise<string[]> {
    const { html } = await open(path);
    return [...html.matchAll(/"(assets\/[^"]+)"/g)].map(([, name]) => name!);
  }

  it('is kept by browsers for ever, since its name tells its content', async () => {
    const names = await namesOn(`/c/${(await create()).id}`);
    expect(names.length).toBeGreaterThan(3);
    for (const name of names) {
      for (const encoding of ['br', 'gzip', 'identity']) {
        const { response, html } = await open(`/c/${name}`, { 'accept-encoding': encoding });
        expect(response.status).toBe(200);
        expect(response.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
        expect(response.headers.get('vary')).toBe('Accept-Encoding');
        expect(response.headers.get('content-encoding')).toBe(encoding === 'identity' ? null : encoding);
        expect(response.headers.get('x-content-type-options')).toBe('nosniff');
        expect(html.length).toBeGreaterThan(100); // fetch has taken the encoding off
      }
    }
  });

  it.each(['main.js', 'main-00000000.js', '..%2f..%2f..%2fpackage.json', '__proto__', '%ff'])(
    'is nothing else: %s',
    async (name) => {
      const { response } = await open(`/c/assets/${name}`);
      expect(response.status).toBe(404);
    },
  );
});

describe('GET /', () => {
  it('is nothing, unless a person has started it on their own machine', async () => {
    expect((await open('/')).response.status).toBe(404);
  });
});
