import { type ApiDocument, type Operation, tagHref } from './document.js';
import { byId, element } from './elements.js';
import type { Heading } from './guide.js';

/** Wide enough for the contents to stand beside the text; docs.css knows the same width. */
const WIDE = matchMedia('(min-width: 1024px)');

/** Lists every section and every operation. Beside the text it is always open; above it, until something is chosen. */
export function showContents(
  headings: readonly Heading[],
  { tags }: ApiDocument,
  operations: readonly Operation[],
): void {
  const links = new Map<string, HTMLAnchorElement>();
  const linkTo = ({ id, text }: Heading): HTMLAnchorElement => {
    const link = element('a', { href: `#${id}` }, text);
    links.set(id, link);
    return link;
  };
  const sections: HTMLElement[] = [];
  let inner: HTMLElement | null = null;
  for (const heading of headings) {
    const item = element('li', {}, linkTo(heading));
    if (heading.level === 2) {
      sections.push(item);
      inner = null;
    } else {
      if (!inner) sections.at(-1)?.append((inner = element('ul')));
      inner?.append(item);
    }
  }
  const groups = tags.map(({ name }) =>
    element(
      'li',
      {},
      element('a', { href: tagHref(name) }, name),
      element(
        'ul',
        {},
        operations
          .filter(({ tag }) => tag === name)
          .map(({ href, method, summary }) =>
            element(
              'li',
              {},
              element('a', { href }, element('span', { class: `method ${method}` }, method), ` ${summary}`),
            ),
          ),
      ),
    ),
  );
  byId('contents').append(
    element('p', { class: 'part' }, 'Guide'),
    element('ul', {}, sections),
    element('p', { class: 'part' }, element('a', { href: '#operations' }, 'Operations')),
    element('ul', {}, groups),
  );

  const details = byId('contents').closest('details')!;
  const adapt = (): void => {
    details.open = WIDE.matches;
  };
  adapt();
  WIDE.addEventListener('change', adapt);
  details.addEventListener('click', ({ target }) => {
    if (!WIDE.matches && target instanceof Element && target.closest('a')) details.open = false;
  });
  details.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape' || WIDE.matches || !details.open) return;
    details.open = false;
    details.querySelector('summary')!.focus();
  });
  markTheSectionInSight(links);
}

/** The contents say which section is being read: the last whose heading has been passed. */
function markTheSectionInSight(links: ReadonlyMap<string, HTMLAnchorElement>): void {
  const headings = [...links.keys()].map(byId);
  let marked: HTMLAnchorElement | undefined;
  let isAsked = false;
  const mark = (): void => {
    isAsked = false;
    const passed = headings.findLast((heading) => heading.getBoundingClientRect().top < innerHeight / 4);
    const isBelow = byId('operations').getBoundingClientRect().top < innerHeight / 4;
    const current = passed && !isBelow ? links.get(passed.id) : undefined;
    if (current === marked) return;
    marked?.removeAttribute('aria-current');
    current?.setAttribute('aria-current', 'true');
    marked = current;
    const list = byId('contents');
    if (!current || !WIDE.matches) return;
    const { top, bottom } = current.getBoundingClientRect();
    const frame = list.getBoundingClientRect();
    if (top < frame.top || bottom > frame.bottom) list.scrollTop += top - frame.top - frame.height / 3;
  };
  addEventListener(
    'scroll',
    () => {
      if (!isAsked) requestAnimationFrame(mark);
      isAsked = true;
    },
    { passive: true },
  );
  mark();
}
