import { showContents } from './contents.js';
import { type ApiDocument, operationsOf } from './document.js';
import { byId, element } from './elements.js';
import { Guide } from './guide.js';
import { Operations } from './operations.js';
import { OwnerToken } from './owner-token.js';

/**
 * The page at `/docs`: the guide, which is the description of `/openapi.json`, as an article with its contents beside it, and
 * below it the operations in Swagger UI. It asks this api only, and needs nothing else.
 */

const dark = matchMedia('(prefers-color-scheme: dark)');
const wear = (): unknown => document.documentElement.classList.toggle('dark-mode', dark.matches); // Swagger UI's own class
wear();
dark.addEventListener('change', wear);

const documentUrl = new URL('openapi.json', location.href);
const address = new URL('.', documentUrl).href.slice(0, -1);

async function show(): Promise<void> {
  const response = await fetch(documentUrl);
  if (!response.ok) throw new Error(`openapi.json: status ${response.status}`);
  const api = (await response.json()) as ApiDocument;
  const operations = operationsOf(api);
  let shown: Operations | null = null;
  const ownerToken = new OwnerToken((token) => shown?.authorizeOwner(token));

  const guide = new Guide({ address, operations, fields: { 'the owner token': ownerToken.field } });
  byId('guide').append(...guide.render(api.info.description ?? ''));
  byId('version').textContent = api.info.version;
  showContents(guide.headings, api, operations);
  goTo(location.hash);

  shown = await Operations.show(api, address);
  ownerToken.share();
  if (location.hash.startsWith('#/')) shown.open(location.hash);
  addEventListener('popstate', () => {
    if (location.hash.startsWith('#/')) shown.open(location.hash);
  });
  document.addEventListener('click', (event) => {
    const link = event.target instanceof Element && event.target.closest('#contents a, #guide a');
    const hash = link && link.getAttribute('href');
    if (!hash || !hash.startsWith('#/') || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    shown.open(hash);
    if (location.hash !== hash) history.pushState(null, '', hash);
  });
}

/** The browser looked for it before it was there. */
function goTo(hash: string): void {
  if (hash.length > 1 && !hash.startsWith('#/')) document.getElementById(hash.slice(1))?.scrollIntoView();
}

show().catch((error: unknown) => {
  const reason = error instanceof Error ? error.message : String(error);
  byId('guide').append(
    element(
      'p',
      { role: 'alert' },
      `The documentation could not be loaded (${reason}). Reload the page to try again.`,
    ),
  );
});
