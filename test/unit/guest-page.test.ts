import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { acceptedLanguage } from '../../src/guest-page/accepted-language.js';
import { accentOf, accentStyle, contrast } from '../../src/guest-page/accent.js';
import { type BuiltPage, readBuiltPage } from '../../src/guest-page/built-page.js';
import { contentPolicy } from '../../src/guest-page/content-policy.js';
import { escapeHtml, fillTemplate } from '../../src/guest-page/html.js';
import { words as english } from '../../web/src/languages/en.js';
import type { Words } from '../../web/src/words.js';
import { ROOT } from '../support/deploy-files.mjs';

const LANGUAGES = ['en', 'de', 'fr', 'es', 'ar'];
const SIZE_LIMIT = 44_000;

describe('the accent', () => {
  const colors = [
    '#2f6fed',
    '#ffffff',
    '#000000',
    '#ffff00',
    '#808080',
    '#ff0000',
    '#00ff00',
    '#0000ff',
    '#0A7F5A',
  ];

  it.each(colors)('%s becomes colours that can be read, on light and on dark', (color) => {
    const { light, dark } = accentOf(color);
    expect(contrast(light.accent, '#ffffff')).toBeGreaterThanOrEqual(4.5);
    expect(contrast(light.accent, light.onAccent)).toBeGreaterThanOrEqual(4.5);
    expect(contrast('#1b1f24', light.tint)).toBeGreaterThanOrEqual(4.5);
    expect(contrast(dark.accent, '#15181c')).toBeGreaterThanOrEqual(4.5);
    expect(contrast(dark.accent, dark.onAccent)).toBeGreaterThanOrEqual(4.5);
    expect(contrast('#e8eaed', dark.tint)).toBeGreaterThanOrEqual(4.5);
  });

  it('stays as it is where it can be read already, and is the page’s own where there is none', () => {
    expect(accentOf('#0a7f5a').light.accent).toBe('#0a7f5a');
    expect(accentOf(null)).toEqual(accentOf('#2f6fed'));
  });

  it('holds for any colour, in a style that is nothing but colours', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffff }), (number) => {
        const color = `#${number.toString(16).padStart(6, '0')}`;
        const { light, dark } = accentOf(color);
        expect(contrast(light.accent, '#ffffff')).toBeGreaterThanOrEqual(4.5);
        expect(contrast(dark.accent, '#15181c')).toBeGreaterThanOrEqual(4.5);
        expect(accentStyle(color)).toMatch(
          /^:root\{(--[a-z-]+:#[0-9a-f]{6};?){3}\}@media\(prefers-color-scheme:dark\)\{:root\{(--[a-z-]+:#[0-9a-f]{6};?){3}\}\}$/,
        );
      }),
    );
  });
});

describe('the policy', () => {
  const policyOf = (allowedOrigins: string[], avatarUrl: string | null = null): Record<string, string> =>
    Object.fromEntries(
      contentPolicy({ avatarUrl, allowedOrigins, style: 'a{}' })
        .split('; ')
        .map((directive) => [directive.split(' ')[0]!, directive.split(' ').slice(1).join(' ')]),
    );

  it('lets nothing in from elsewhere, and no style but the page’s own', () => {
    expect(policyOf([])).toEqual({
      'default-src': "'none'",
      'script-src': "'self'",
      'style-src': "'self' 'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='",
      'connect-src': "'self'",
      'img-src': "'self'",
      'base-uri': "'none'",
      'form-action': "'none'",
      'frame-ancestors': '*',
      'require-trusted-types-for': "'script'",
      'trusted-types': "'none'",
    });
  });

  it('lets those pages embed it that its chatbot allows, and its own', () => {
    const origins = ['https://shop.example', 'https://*.example.com', 'http://localhost:8080'];
    expect(policyOf(origins)['frame-ancestors']).toBe(`'self' ${origins.join(' ')}`);
  });

  it('names the origin of the picture', () => {
    expect(policyOf([], 'https://cdn.example:8443/a/b.png?c')['img-src']).toBe(
      "'self' https://cdn.example:8443",
    );
  });

  it('gives no host the chance to say more than that', () => {
    const hostile = policyOf(
      ['https://a;script-src', 'https://a,b', "https://a'b"],
      'https://a;sandbox/x.png',
    );
    expect(hostile['img-src']).toBe("'self'");
    expect(hostile['frame-ancestors']).toBe("'self'"); // not everybody
    expect(Object.keys(hostile)).toEqual(Object.keys(policyOf([])));
  });
});

describe('the HTML', () => {
  it('takes any text as text', () => {
    const hostile = `</title><script>alert(1)</script>"'&{{greeting}}$&`;
    expect(
      fillTemplate('<title>{{title}}</title><p>{{greeting}}</p>', { title: hostile, greeting: '<b>' }),
    ).toBe(
      '<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;{{greeting}}$&amp;</title><p>&lt;b&gt;</p>',
    );
    fc.assert(fc.property(fc.string(), (text) => expect(escapeHtml(text)).not.toMatch(/[<>"']/)));
  });

  it.each([
    [undefined, 'en'],
    ['de-AT,de;q=0.9,en;q=0.5', 'de'],
    ['pt-BR, fr;q=0.4, ar;q=0.7', 'ar'],
    ['ja', 'en'],
    ['de;q=0, es', 'es'],
    ['*;q=x, ,;;', 'en'],
  ])('is in the language that the browser likes best: %j is %s', (header, language) => {
    expect(acceptedLanguage(header, LANGUAGES)).toBe(language);
  });
});

describe('the languages', () => {
  it.each(LANGUAGES)('%s has every word, and the same places to fill', async (language) => {
    const { words } = (await import(`../../web/src/languages/${language}.js`)) as { words: Words };
    expect(Object.keys(words)).toEqual(Object.keys(english));
    for (const [name, text] of Object.entries(words)) {
      expect(text.trim()).toBe(text);
      expect(text).not.toBe('');
      expect(text.match(/\{\w+\}/g)).toEqual(english[name as keyof Words].match(/\{\w+\}/g));
    }
    expect(words.direction).toBe(language === 'ar' ? 'rtl' : 'ltr');
  });

  it('are all there are', () => {
    const files = readdirSync(join(ROOT, 'web/src/languages')).map((name) => name.replace('.ts', ''));
    expect(files.sort()).toEqual([...LANGUAGES, 'index'].sort());
  });
});

describe('the built page', () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await readBuiltPage();
  });

  it('loads first no more than 44 kB, compressed, in every language', () => {
    expect([...built.languages].sort()).toEqual([...LANGUAGES].sort());
    for (const language of built.languages) {
      const html = built.templates.get(`index.${language}`)!;
      const names = [...html.matchAll(/"assets\/([^"]+)"/g)].map(([, name]) => name!);
      expect(names.some((name) => name.startsWith(`${language}-`))).toBe(true);
      const bytes = [...new Set(names)].reduce((sum, name) => sum + built.assets.get(name)!.gzip.length, 0);
      expect(bytes + gzipSync(html, { level: 9 }).length).toBeLessThanOrEqual(SIZE_LIMIT);
    }
  });

  it('has a hash of its content in the name of every file, and nothing of another site', () => {
    for (const [name, { plain, type }] of built.assets) {
      expect(name).toMatch(/^[a-z]+-[A-Z0-9]{8}\.(js|css|svg|js\.LEGAL\.txt)$/);
      expect(type).not.toBe('application/octet-stream');
      if (name.endsWith('.css')) expect(plain.toString()).not.toMatch(/url\(|@import/);
    }
    for (const html of built.templates.values()) {
      expect(html).not.toMatch(/(src|href)="(https?:)?\/\//);
      expect(html).not.toMatch(/%\w+%/);
    }
  });

  it('is made of sources that never write HTML', () => {
    const sources = execFileSync(
      'git',
      ['ls-files', '--cached', '--others', '--exclude-standard', 'web/src'],
      {
        cwd: ROOT,
        encoding: 'utf8',
      },
    );
    for (const path of sources.trim().split('\n')) {
      expect(readFileSync(join(ROOT, path), 'utf8')).not.toMatch(
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/,
      );
    }
  });

  it('holds only what the server fills', () => {
    for (const language of built.languages) {
      const html = built.templates.get(`index.${language}`)!;
      expect(html).toContain(`<html lang="${language}"`);
      expect([...new Set(html.match(/\{\{\w+\}\}/g))].sort()).toEqual([
        '{{accent}}',
        '{{greeting}}',
        '{{title}}',
      ]);
      expect(html).toContain('<style>{{accent}}</style>'); // whose hash the policy has
    }
  });
});
