import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Outcome } from './round.js';

const README = fileURLToPath(new URL('../../../client/README.md', import.meta.url));
const BEGIN = '<!-- the table, written by UPDATE=1 npm run test:clients -->\n';
const END = '\n<!-- its end -->';

/** A table in Markdown, its columns as wide as Prettier makes them. */
export function toTable([head, ...rows]: readonly (readonly string[])[]): string {
  const widths = head!.map((_, i) => Math.max(3, ...[head!, ...rows].map((row) => row[i]!.length)));
  const toLine = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
  return [head!, widths.map((width) => '-'.repeat(width)), ...rows].map(toLine).join('\n');
}

/** What a cell says. */
export function wordsOf({ took }: Outcome): string {
  if (took === 'nothing') return 'nothing';
  return took.length === 1 ? took[0]! : `${took.slice(0, -1).join(', ')} or ${took.at(-1)!}`;
}

/** The README's table with these columns, and the first. */
export function shownTable(columns: readonly string[]): string {
  const rows = shown()
    .split('\n')
    .filter((line) => !line.startsWith('| -'));
  const cells = rows.map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  );
  const wanted = ['', ...columns].map((column) => cells[0]!.indexOf(column));
  return toTable(cells.map((row) => wanted.map((index) => row[index] ?? '')));
}

function shown(): string {
  const text = readFileSync(README, 'utf8');
  return text.slice(text.indexOf(BEGIN) + BEGIN.length, text.indexOf(END)).trim();
}

export function showTable(table: string): void {
  const text = readFileSync(README, 'utf8');
  const [before, after] = [text.slice(0, text.indexOf(BEGIN) + BEGIN.length), text.slice(text.indexOf(END))];
  writeFileSync(README, `${before}\n${table}\n${after}`);
}
