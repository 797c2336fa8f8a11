import { element } from './elements.js';

/**
 * What stands in angle brackets in the guide's code until it is known: the owner token from its field, all else from the
 * answers to what was tried on this page.
 */
const NAMES = ['owner token', 'chatbot id', 'session id', 'guest token', 'cursor'] as const;
export type ValueName = (typeof NAMES)[number];

const PLACEHOLDER = new RegExp(`<(${NAMES.join('|')})>`);
const known = new Map<ValueName, string>();

/** The text in pieces, each placeholder in an element of its own. */
export function valueSpans(text: string): (Node | string)[] {
  return text.split(PLACEHOLDER).map((piece, index) => {
    if (index % 2 === 0) return piece;
    const span = element('span', { class: 'value', 'data-value': piece });
    show(span);
    return span;
  });
}

/** From now on the code has this value; null takes it out again. */
export function setValue(name: ValueName, value: string | null): void {
  if (value === null) known.delete(name);
  else known.set(name, value);
  for (const span of document.querySelectorAll<HTMLElement>(`[data-value="${name}"]`)) show(span);
}

function show(span: HTMLElement): void {
  const name = span.dataset['value'] as ValueName;
  span.textContent = known.get(name) ?? `<${name}>`;
  span.classList.toggle('known', known.has(name));
}
