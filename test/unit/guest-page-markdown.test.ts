import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { Sentences } from '../../web/src/sentences.js';

interface Token {
  type: string;
}
interface Markdown {
  GrowingBlocks: new () => { read(text: string): Token[] };
  plainText: (tokens: Token[]) => string;
  renderMarkdown: (text: string) => unknown;
  safeHref: (href: string) => string | null;
  toBlocks: (text: string) => Token[];
  toElement: (token: Token) => unknown;
}
// By a name that the compiler does not follow: what is for browsers brings their types along, which differ from Node's.
const MARKDOWN: string = '../../web/src/markdown.js';
const { GrowingBlocks, plainText, renderMarkdown, safeHref, toBlocks, toElement } = (await import(
  MARKDOWN
)) as Markdown;

type Node = string | number | boolean | null | undefined | Node[] | Element;
interface Element {
  type: unknown;
  props: Record<string, unknown> & { children?: Node };
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** What a browser is given, written as HTML. */
function markup(node: Node): string {
  if (node === null || node === undefined || typeof node === 'boolean') return '';
  if (Array.isArray(node)) return node.map(markup).join('');
  if (typeof node !== 'object') return escape(String(node));
  const { children, ...attributes } = node.props;
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}="${String(value)}"`);
  return `<${String(node.type)}${written.join('')}>${markup(children)}</${String(node.type)}>`;
}

const shown = (text: string): string => markup(renderMarkdown(text) as Node);

/** What hostile Markdown is made of. */
const PIECES =
  `< > [ ] ( ) ! * _ \` - 1. # | : " ' \\ javascript: https://a.example <script> </script> data: word 漢 😀
  <img/src=x/onerror=x> &lt; &#x3c; |-| \`\`\` ~~ www.a.example`
    .split(/\s+/)
    .concat(' ', '\n', '\n\n', '\t', '> ', '- ', '# ', '1. ', '```\n', '|-|\n');

/** Every element, from the outermost in. */
function elements(node: Node): Element[] {
  if (Array.isArray(node)) return node.flatMap(elements);
  if (typeof node !== 'object' || node === null) return [];
  return [node, ...elements(node.props.children)];
}

const ALLOWED: Record<string, string[]> = {
  a: ['href', 'target', 'rel'],
  ol: ['start'],
  h2: ['class'],
  th: ['class', 'scope'],
  td: ['class'],
  div: ['class', 'tabIndex', 'role'],
  ...Object.fromEntries(
    ['p', 'ul', 'li', 'span', 'strong', 'em', 'del', 'code', 'pre', 'br', 'hr']
      .concat(['blockquote', 'table', 'thead', 'tbody', 'tr'])
      .map((name) => [name, []]),
  ),
};

/** Nothing but the elements of Markdown, with nothing but what they need, and no link within another. */
function expectHarmless(text: string): void {
  const tree = renderMarkdown(text) as Node;
  for (const { type, props } of elements(tree)) {
    const { children, ...attributes } = props;
    expect(Object.keys(ALLOWED)).toContain(type);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined) expect(ALLOWED[String(type)]).toContain(name);
    }
    if (type !== 'a') continue;
    expect(props['href']).toMatch(/^(https?|mailto):/);
    expect(props['target']).toBe('_blank');
    expect(props['rel']).toBe('noopener noreferrer nofollow');
    expect(elements(children).filter((inner) => inner.type === 'a')).toEqual([]);
  }
}

describe('Markdown on the page', () => {
  it('becomes elements', () => {
    expect(shown('# Bread\n\n**Rye** and *wheat*, ~~oats~~, `a < b`.')).toBe(
      '<h2>Bread</h2><p><strong>Rye</strong> and <em>wheat</em>, <del>oats</del>, <code>a &lt; b</code>.</p>',
    );
    expect(shown('3. one\n4. two\n   - three')).toBe(
      '<ol start="3"><li><span>one</span></li><li><span>two</span><ul><li><span>three</span></li></ul></li></ol>',
    );
    expect(shown('| a | b |\n|:--|--:|\n| 1 | **2** |')).toBe(
      '<div class="table" tabIndex="0" role="group"><table><thead><tr><th class="at-left" scope="col">a</th>' +
        '<th class="at-right" scope="col">b</th></tr></thead><tbody><tr><td class="at-left">1</td>' +
        '<td class="at-right"><strong>2</strong></td></tr></tbody></table></div>',
    );
    expect(shown('```js\n<b>1 && 2</b>\n```')).toBe(
      '<pre><code>&lt;b&gt;1 &amp;&amp; 2&lt;/b&gt;</code></pre>',
    );
    expect(shown('one\ntwo &amp; three')).toBe('<p>one<br></br>two &amp; three</p>');
    expect(shown('- [x] done\n- [ ] open')).toBe(
      '<ul><li>☑ <span>done</span></li><li>☐ <span>open</span></li></ul>',
    );
  });

  it.each([
    '<script>alert(1)</script>',
    'a <img src=x onerror=alert(1)> b',
    '<div onclick="alert(1)">\n\nhello\n\n</div>',
    '<a href="javascript:alert(1)">x</a>',
    '<style>*{display:none}</style>',
    '<!-- comment -->',
    '&lt;script&gt;alert(1)&lt;/script&gt;',
  ])('shows HTML as the text that it is: %s', (text) => {
    expectHarmless(text);
    const plain = shown(text).replace(/<\/?(p|br)>/g, '');
    expect(plain).toBe(
      escape(text.replaceAll('&lt;', '<').replaceAll('&gt;', '>')).replaceAll('\n', '').trim(),
    );
  });

  it.each([
    'javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    'java&#115;cript:alert(1)',
    ' javascript:alert(1)',
    'vbscript:x',
    'data:text/html,<script>alert(1)</script>',
    'file:///etc/passwd',
    'blob:https://x.example/1',
    '//elsewhere.example',
    '/v1/chatbots',
    'chat.html',
    '#top',
    '',
    'https://',
  ])('makes no link of %j', (href) => {
    expect(safeHref(href)).toBeNull();
    for (const text of [`[x](${href})`, `[x](<${href}>)`, `![x](${href})`, `[x]\n\n[x]: ${href}`]) {
      expectHarmless(text);
      expect(shown(text)).not.toContain('<a ');
    }
  });

  it('opens links elsewhere, knowing nothing of this page; a picture is a link', () => {
    const link = (href: string, text: string): string =>
      `<a href="${href}" target="_blank" rel="noopener noreferrer nofollow">${text}</a>`;
    expect(shown('[x](https://a.example/?b=1&c=2 "title")')).toBe(
      `<p>${link('https://a.example/?b=1&c=2', 'x')}</p>`,
    );
    expect(shown('https://a.example')).toBe(`<p>${link('https://a.example/', 'https://a.example')}</p>`);
    expect(shown('me@a.example')).toBe(`<p>${link('mailto:me@a.example', 'me@a.example')}</p>`);
    expect(shown('![a **cat**](https://a.example/cat.png)')).toContain(
      link('https://a.example/cat.png', 'a **cat**'),
    );
    expect(shown('![x](data:image/png;base64,AAAA)')).toBe('<p><span>x</span></p>');
  });

  it('never puts a link into another', () => {
    expectHarmless('[a [b](http://x.example) ![c](http://y.example)](http://z.example)');
    expectHarmless('[![c](http://y.example)](http://z.example)');
    expectHarmless('[http://x.example](http://z.example)');
  });

  it('holds nothing but harmless elements, whatever comes', () => {
    const piece = fc.constantFrom(...PIECES);
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => expectHarmless(pieces.join(''))),
      { numRuns: 500 },
    );
  });

  it('survives nesting without end', () => {
    for (const text of ['> '.repeat(3_000), '['.repeat(5_000), '*a '.repeat(3_000), '- '.repeat(500)]) {
      expectHarmless(`${text}x`);
    }
  });

  it('reads a text that grows as it reads the whole, and keeps what stands', () => {
    const text =
      '# Title\n\nA *paragraph*\nof lines.\n\n- one\n- two\n\n  more\n\n```js\nlet a;\n\nlet b;\n```\n\n| a |\n|---|\n| 1 |\n\nThe end.';
    const growing = new GrowingBlocks();
    const first = new Set<object>();
    for (let length = 1; length <= text.length; length++) {
      const tokens = growing.read(text.slice(0, length));
      if (length === 40) first.add(tokens[0]!);
      expect(markup(tokens.map((token) => toElement(token)) as Node)).toBe(shown(text.slice(0, length)));
    }
    expect(first.has(growing.read(text)[0]!)).toBe(true);
    expect(growing.read('Another.')).toHaveLength(1);
  });
});

describe('what is read aloud', () => {
  it('is an answer without its marks', () => {
    expect(
      plainText(toBlocks('# Bread\n\n**Rye** is `good`, [see](https://a.example).\n\n- one\n- two')),
    ).toBe('Bread\n Rye is good, see.\n one. two.\n');
  });

  it('is whole sentences, each once, and the rest at the end', () => {
    const sentences = new Sentences('en');
    expect(sentences.next('We are', false)).toBe('');
    expect(sentences.next('We are open. Come', false)).toBe('We are open.');
    expect(sentences.next('We are open. Come in. Or', false)).toBe('Come in.');
    expect(sentences.next('We are open. Come in. Or not', true)).toBe('Or not');
    expect(sentences.next('We are open. Come in. Or not', true)).toBe('');
    expect(sentences.next('Anew. And', false)).toBe('Anew.');
  });
});
