import { render } from 'preact';
import { WordsContext } from './context.js';
import { LANGUAGES } from './languages/index.js';
import { type FirstText, Page } from './page.js';
import { Parent } from './parent.js';
import { Store } from './store.js';

/** The page stands at `<api>/c/<chatbot id>`. */
const baseUrl = new URL('..', location.href).href.replace(/\/$/, '');
const chatbotId = location.pathname.split('/').at(-1) ?? '';
const language = document.documentElement.lang;
const draftKey = `assistly:draft:${chatbotId}`;

function draft(): string {
  try {
    return sessionStorage.getItem(draftKey) ?? '';
  } catch {
    return '';
  }
}

function keepDraft(text: string): void {
  try {
    if (text === '') sessionStorage.removeItem(draftKey);
    else sessionStorage.setItem(draftKey, text);
  } catch {
    // full, or not allowed
  }
}

const { words } = await (LANGUAGES[language] ?? LANGUAGES['en']!)();
const parent = new Parent(
  new URLSearchParams(location.search).get('embed') === '1' && window.parent !== window,
);
const store = new Store(baseUrl, chatbotId, parent);

const root = document.getElementById('page')!;
const field = root.querySelector('textarea')!;
// The greeting comes from the chatbot's owner, and with `{name}` taken out.
const greeting = root.querySelector('.answer')?.textContent?.trim() ?? '';
const first: FirstText = {
  title: root.querySelector('h1')?.textContent?.trim() ?? '',
  greeting: greeting === '' ? null : greeting,
  placeholder: field.placeholder,
  draft: field.value || draft(),
  hasFocus: document.activeElement === field,
  selection: [field.selectionStart, field.selectionEnd],
};
root.replaceChildren();
render(
  <WordsContext.Provider value={words}>
    <Page store={store} parent={parent} first={first} language={language} onDraft={keepDraft} />
  </WordsContext.Provider>,
  root,
);

const focusField = (): void => {
  if (document.hasFocus()) root.querySelector<HTMLElement>('textarea, input')?.focus();
};
parent.listen({
  opened: focusField,
  identify: (token) => void store.identify(token),
  logout: store.logout,
  reset: store.begin,
});
if (parent.isEmbedded) {
  addEventListener('focus', () => {
    if (document.activeElement === document.body) focusField();
  });
}
parent.post({ type: 'ready' });
