import { type ComponentType, h as createElement, type VNode } from 'preact';
import { Lexer, type Token, type Tokens } from 'marked';

/**
 * An answer's Markdown as elements. Nothing of it becomes markup by itself: HTML is shown as the text that it is, a link is
 * one only to `http:`, `https:` and `mailto:`, and a picture is a link to it. So there is nothing to sanitise.
 */
export type Piece = VNode | string;

const h = createElement as (
  type: string | CodeBlock,
  props: Record<string, unknown> | null,
  ...children: (Piece | Piece[])[]
) => VNode;

/** What shows a block of code: with its own button to copy it, in the page. */
export type CodeBlock = ComponentType<{ code: string; language: string }>;

const SAFE_PROTOCOLS = new Set(['http:', 'https:', 'mailto:']);
/** Deeper nesting than people write, and far from the depth that would exhaust the stack. */
const MAX_DEPTH = 24;
const ENTITIES: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  nbsp: ' ',
  '#39': "'",
};

/** The address of a link as it may be opened; null where it may not. */
export function safeHref(href: string): string | null {
  if (!/^[a-z]+:/i.test(href) || !URL.canParse(href)) return null; // an address without a scheme would lead into this site
  const url = new URL(href);
  return SAFE_PROTOCOLS.has(url.protocol) ? url.href : null;
}

/** The text's blocks. One that is nested so deeply that the reader gives up is shown as it is. */
export function toBlocks(text: string): Token[] {
  try {
    return new Lexer({ gfm: true, breaks: true }).lex(text);
  } catch {
    return [{ type: 'text', raw: text, text }];
  }
}

/** The element of one token of {@link toBlocks}. */
export function toElement(token: Token, codeBlock: CodeBlock | 'pre' = 'pre'): Piece {
  return new Elements(codeBlock).block(token, 0);
}

export const renderMarkdown = (text: string): Piece[] => toBlocks(text).map((token) => toElement(token));

/** All the text of an answer without its marks, for those who hear it. */
export function plainText(tokens: readonly Token[]): string {
  return tokens
    .map((token) => {
      const { tokens, items, rows } = token as {
        tokens?: Token[];
        items?: Tokens.ListItem[];
        rows?: Tokens.TableCell[][];
      };
      if (items) return `${items.map((item) => plainText(item.tokens)).join('. ')}.\n`;
      if (rows) {
        const { header } = token as Tokens.Table;
        return [header, ...rows]
          .map((row) => row.map((cell) => plainText(cell.tokens)).join(', '))
          .join('.\n');
      }
      const text = tokens ? plainText(tokens) : 'text' in token ? decode(String(token.text)) : ' ';
      return token.type === 'paragraph' || token.type === 'heading' ? `${text}\n` : text;
    })
    .join('');
}

const decode = (text: string): string =>
  text.replace(/&(amp|lt|gt|quot|nbsp|#39);/g, (_, name: string) => ENTITIES[name]!);

class Elements {
  constructor(private readonly codeBlock: CodeBlock | 'pre') {}

  block(token: Token, depth: number): Piece {
    if (depth > MAX_DEPTH) return token.raw;
    switch (token.type) {
      case 'space':
      case 'def':
        return '';
      case 'hr':
        return h('hr', null);
      case 'heading': {
        const { depth: level } = token as Tokens.Heading;
        // Models begin with any level; below the page's title, which is the first, all are of one rank.
        return h('h2', level > 2 ? { class: 'lesser' } : null, this.inline(token, depth));
      }
      case 'code': {
        const { text, lang } = token as Tokens.Code;
        const language = (lang ?? '').split(/\s/)[0] ?? '';
        return this.codeBlock === 'pre'
          ? h('pre', null, h('code', null, text))
          : h(this.codeBlock, { code: text, language });
      }
      case 'blockquote':
        return h('blockquote', null, this.blocks((token as Tokens.Blockquote).tokens, depth));
      case 'list':
        return this.list(token as Tokens.List, depth);
      case 'table':
        return this.table(token as Tokens.Table, depth);
      case 'paragraph':
        return h('p', null, this.inline(token, depth));
      case 'html':
        return h('p', null, token.raw.trim());
      default:
        return h('p', null, this.span(token, depth, false));
    }
  }

  private blocks(tokens: readonly Token[], depth: number): Piece[] {
    return tokens.map((token) => this.block(token, depth + 1));
  }

  private list({ ordered, start, items, loose }: Tokens.List, depth: number): VNode {
    const children = items.map((item) =>
      h(
        'li',
        null,
        item.tokens.map((token) =>
          token.type === 'text' && !loose
            ? h('span', null, this.inline(token, depth))
            : this.item(token, depth),
        ),
      ),
    );
    return ordered
      ? h('ol', typeof start === 'number' && start !== 1 ? { start } : null, children)
      : h('ul', null, children);
  }

  private item(token: Token, depth: number): Piece {
    if (token.type === 'checkbox') return (token as Tokens.Checkbox).checked ? '☑ ' : '☐ ';
    return token.type === 'text' ? h('p', null, this.inline(token, depth)) : this.block(token, depth + 1);
  }

  private table({ header, rows, align }: Tokens.Table, depth: number): VNode {
    const row = (cells: Tokens.TableCell[], name: 'th' | 'td') =>
      h(
        'tr',
        null,
        cells.map((cell, column) =>
          h(
            name,
            {
              class: align[column] ? `at-${align[column]}` : undefined,
              ...(name === 'th' && { scope: 'col' }),
            },
            this.spans(cell.tokens, depth + 1, false),
          ),
        ),
      );
    return h(
      'div',
      { class: 'table', tabIndex: 0, role: 'group' },
      h(
        'table',
        null,
        h('thead', null, row(header, 'th')),
        h(
          'tbody',
          null,
          rows.map((cells) => row(cells, 'td')),
        ),
      ),
    );
  }

  private inline(token: Token, depth: number, isInLink = false): Piece[] {
    const { tokens, text, raw } = token as Tokens.Text;
    return tokens ? this.spans(tokens, depth + 1, isInLink) : [decode(text ?? raw)];
  }

  private spans(tokens: readonly Token[], depth: number, isInLink: boolean): Piece[] {
    return tokens.map((token) => this.span(token, depth, isInLink));
  }

  private span(token: Token, depth: number, isInLink: boolean): Piece {
    if (depth > MAX_DEPTH) return token.raw;
    switch (token.type) {
      case 'strong':
      case 'em':
      case 'del':
        return h(token.type, null, this.inline(token, depth, isInLink));
      case 'codespan':
        return h('code', null, (token as Tokens.Codespan).text);
      case 'br':
        return h('br', null);
      case 'checkbox':
        return (token as Tokens.Checkbox).checked ? '☑ ' : '☐ ';
      case 'link':
        return this.link((token as Tokens.Link).href, this.inline(token, depth, true), isInLink);
      case 'image': {
        const { href, text } = token as Tokens.Image;
        return this.link(href, [decode(text) || href], isInLink);
      }
      case 'escape':
      case 'text':
        return 'tokens' in token && token.tokens
          ? h('span', null, this.inline(token, depth, isInLink))
          : decode((token as Tokens.Text).text);
      default:
        return token.raw; // HTML among it
    }
  }

  private link(href: string, children: Piece[], isInLink: boolean): VNode {
    const safe = isInLink ? null : safeHref(href);
    return safe === null
      ? h('span', null, children)
      : h('a', { href: safe, target: '_blank', rel: 'noopener noreferrer nofollow' }, children);
  }
}

/** Blocks of a text that grows: those before the last are read once. */
export class GrowingBlocks {
  private text = '';
  private tokens: Token[] = [];

  read(text: string): Token[] {
    if (text === this.text) return this.tokens;
    let kept = text.startsWith(this.text) ? this.tokens.findLastIndex(({ type }) => type !== 'space') : 0;
    kept = Math.max(0, kept);
    const settled = this.tokens.slice(0, kept);
    const length = settled.reduce((sum, { raw }) => sum + raw.length, 0);
    // The reader may have changed line ends or tabs: what it kept must still be the text's beginning.
    const isSame = settled.map(({ raw }) => raw).join('') === text.slice(0, length);
    this.tokens = isSame ? [...settled, ...toBlocks(text.slice(length))] : toBlocks(text);
    this.text = text;
    return this.tokens;
  }
}
