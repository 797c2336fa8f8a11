/** What of Swagger UI has no name that could be read aloud: by selector, and how it is to be called. */
const NAMES: readonly [selector: string, nameOf: (part: HTMLElement) => string | undefined][] = [
  [
    '.parameters :is(input, select, textarea):not([type="checkbox"])',
    (part) => part.closest<HTMLElement>('[data-param-name]')?.dataset['paramName'],
  ],
  ['textarea.body-param__text', () => 'Request body'],
  ['.examples-select-element', () => 'Example'],
  ['select.content-type', () => 'Media type'],
  ['.close-modal', () => 'Close'],
  ['pre', () => 'Text'],
];

/** Names what has no name, lets a keyboard scroll what scrolls, and begins a dialog at its top: now and whenever Swagger UI shows something else. */
export function nameParts(root: HTMLElement): void {
  const name = (): void => {
    for (const [selector, nameOf] of NAMES) {
      for (const part of root.querySelectorAll<HTMLElement>(`${selector}:not([aria-label])`)) {
        part.setAttribute('aria-label', nameOf(part) ?? 'Value');
      }
    }
    for (const pre of root.querySelectorAll<HTMLElement>('pre:not([role])')) {
      pre.setAttribute('role', 'group');
      pre.tabIndex = 0;
    }
    for (const heading of root.querySelectorAll('h6:not([aria-level])'))
      heading.setAttribute('aria-level', '5'); // below an h4
    // Each of its fields takes the focus when it opens, so the last has it, below what can be seen.
    const dialog = root.querySelector<HTMLElement>('.modal-ux-content:not([data-began])');
    if (dialog) {
      dialog.dataset['began'] = '';
      dialog.querySelector<HTMLElement>('input, button')?.focus();
      dialog.scrollTop = 0;
    }
    // What they are called by is what stands on them.
    for (const part of root.querySelectorAll('.modal-btn[aria-label]')) part.removeAttribute('aria-label');
  };
  name();
  new MutationObserver(name).observe(root, { childList: true, subtree: true });
}
