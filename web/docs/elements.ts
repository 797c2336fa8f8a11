type Child = Node | string;

/** An element with attributes and children. A text is never markup. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Record<string, string> = {},
  ...children: (Child | Child[])[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children.flat());
  return made;
}

/** One that stands in the page's HTML. */
export const byId = (id: string): HTMLElement => document.getElementById(id)!;

let silence: ReturnType<typeof setTimeout> | undefined;

/** Tells what has happened to those who hear the page, and to all who see it. */
export function say(sentence: string): void {
  byId('said').textContent = sentence;
  clearTimeout(silence);
  silence = setTimeout(() => (byId('said').textContent = ''), 4_000);
}
