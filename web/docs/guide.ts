import { Lexer, type Token, type Tokens } from 'marked';
import { codeBlock, WRITTEN_ADDRESS } from './code.js';
import type { Operation } from './document.js';
import { element } from './elements.js';
import { valueSpans } from './values.js';

type Pieces = (Node | string)[];

export interface Heading {
  id: string;
  text: string;
  level: number;
}

export interface GuideParts {
  /** Where the API is. */
  address: string;
  operations: readonly Operation[];
  /** What stands in the place of a comment of the Markdown, by its text. */
  fields: Record<string, HTMLElement>;
}

/** As GitHub makes an anchor of a heading. */
export const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, '')
    .replaceAll(' ', '-');

const decode = (text: string): string =>
  text.replace(
    /&(amp|lt|gt|quot|#39);/g,
    (_, name: string) => ({ amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" })[name]!,
  );

/** The guide's Markdown as elements, with a link at each heading and at each operation that it names. */
export class Guide {
  readonly headings: Heading[] = [];

  constructor(private readonly parts: GuideParts) {}

  render(markdown: string): Pieces {
    return this.blocks(new Lexer({ gfm: true }).lex(markdown));
  }

  private blocks(tokens: readonly Token[]): Pieces {
    return tokens.flatMap((token) => this.block(token));
  }

  private block(token: Token): Pieces {
    switch (token.type) {
      case 'heading': {
        const { depth, text } = token as Tokens.Heading;
        const heading = { id: anchorOf(text), text, level: depth };
        this.headings.push(heading);
        const link = element('a', { href: `#${heading.id}` }, text);
        return [element(depth === 2 ? 'h2' : 'h3', { id: heading.id, tabindex: '-1' }, link)];
      }
      case 'paragraph':
        return [element('p', {}, this.spans((token as Tokens.Paragraph).tokens))];
      case 'code': {
        const { text, lang } = token as Tokens.Code;
        return [codeBlock(text, lang ?? '', this.parts.address)];
      }
      case 'list':
        return [this.list(token as Tokens.List)];
      case 'table':
        return [this.table(token as Tokens.Table)];
      case 'text':
        return this.spans((token as Tokens.Text).tokens ?? [token]);
      case 'html': {
        const name = /^<!--\s*(.*?)\s*-->\s*$/.exec((token as Tokens.HTML).text)?.[1];
        const field = name === undefined ? undefined : this.parts.fields[name];
        return field ? [field] : [];
      }
      case 'space':
        return [];
      default:
        return [element('p', {}, token.raw)];
    }
  }

  private list({ ordered, start, items }: Tokens.List): HTMLElement {
    const children = items.map(({ tokens }) => element('li', {}, this.blocks(tokens)));
    return ordered
      ? element('ol', start === 1 ? {} : { start: String(start) }, children)
      : element('ul', {}, children);
  }

  private table({ header, rows }: Tokens.Table): HTMLElement {
    const titles = header.map(({ text }) => text);
    return element(
      'div',
      { class: 'table', tabindex: '0', role: 'group', 'aria-label': `Table: ${titles.join(', ')}` },
      element(
        'table',
        {},
        element(
          'thead',
          {},
          element(
            'tr',
            {},
            header.map(({ tokens }) => element('th', { scope: 'col' }, this.spans(tokens))),
          ),
        ),
        element(
          'tbody',
          {},
          rows.map((cells) =>
            element(
              'tr',
              {},
              cells.map(({ tokens }) => element('td', {}, this.spans(tokens))),
            ),
          ),
        ),
      ),
    );
  }

  private spans(tokens: readonly Token[]): Pieces {
    return tokens.map((token) => {
      switch (token.type) {
        case 'strong':
        case 'em':
        case 'del':
          return element(token.type, {}, this.spans((token as Tokens.Strong).tokens));
        case 'codespan':
          return this.codespan((token as Tokens.Codespan).text);
        case 'link': {
          const { href, tokens } = token as Tokens.Link;
          return element('a', { href }, this.spans(tokens));
        }
        case 'br':
          return element('br');
        default:
          return decode((token as Tokens.Text).text ?? token.raw);
      }
    });
  }

  /** A code that names an operation leads there. */
  private codespan(written: string): HTMLElement {
    const code = element(
      'code',
      {},
      valueSpans(written.replaceAll(WRITTEN_ADDRESS, () => this.parts.address)),
    );
    const named = this.parts.operations.find(
      ({ id, method, path }) => written === id || written === `${method} ${path}`,
    );
    return named ? element('a', { href: named.href }, code) : code;
  }
}
