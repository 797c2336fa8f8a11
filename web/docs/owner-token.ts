import { element } from './elements.js';
import { setValue } from './values.js';

/** Where the token is kept, for this tab alone. */
const KEY = 'assistly-docs-owner-token';
/** What a link to this page may bring along: a fragment, which no server gets to see. */
const FRAGMENT = /^#owner-token=([\w.~+/=-]+)$/;

/**
 * The field for the owner token, at the guide's first step. What is put in there stands in the code from then on.
 *
 * @param authorize gives it to the operations; null takes it away
 */
export class OwnerToken {
  readonly field: HTMLElement;
  private readonly input: HTMLInputElement;
  private readonly note = element('p', { id: 'owner-token-note', role: 'status' });
  private token: string | null;

  constructor(private readonly authorize: (token: string | null) => void) {
    this.token = takeFromAddress() ?? sessionStorage.getItem(KEY);
    this.input = element('input', {
      id: 'owner-token',
      type: 'text',
      autocomplete: 'off',
      autocapitalize: 'off',
      spellcheck: 'false',
      placeholder: 'eyJ…',
      'aria-describedby': 'owner-token-note',
    });
    this.input.value = this.token ?? '';
    this.input.addEventListener('input', () => this.set(this.input.value));
    this.field = element(
      'div',
      { class: 'owner-token' },
      element('label', { for: 'owner-token' }, 'Owner token'),
      this.input,
      this.note,
    );
    this.share();
  }

  /** To be called once the operations are there. */
  share(): void {
    setValue('owner token', this.token);
    document.documentElement.classList.toggle('has-owner-token', this.token !== null);
    this.note.textContent =
      this.token === null
        ? 'For the operations below, and for the code. It stays in this tab.'
        : 'The operations below use it, and it stands in the code. It stays in this tab.';
    this.authorize(this.token);
  }

  private set(written: string): void {
    const token = written.trim().replace(/^(Authorization:\s*)?Bearer\s+/i, '') || null;
    if (token === this.token) return;
    this.token = token;
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
    this.share();
  }
}

/** It does not stay in the address, where it could be seen, shared and found in the history. */
function takeFromAddress(): string | null {
  const token = FRAGMENT.exec(location.hash)?.[1];
  if (token === undefined) return null;
  history.replaceState(null, '', location.pathname + location.search + '#try-it-on-this-page');
  sessionStorage.setItem(KEY, token);
  return token;
}
