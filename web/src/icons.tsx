import type { VNode } from 'preact';

const PATHS = {
  send: 'M12 19V5M5.5 11.5 12 5l6.5 6.5',
  stop: 'M7 7h10v10H7z',
  menu: 'M5 12h.01M12 12h.01M19 12h.01',
  close: 'M6 6l12 12M18 6 6 18',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  done: 'M5 12.5 10 17.5 19.5 7',
  again: 'M4.5 12a7.5 7.5 0 1 1 2.4 5.5M4.5 18v-4.5H9',
  down: 'M12 5v14M5.5 12.5 12 19l6.5-6.5',
} as const;

/** An icon of the page's own; what it means is said beside it. */
export const Icon = ({ name }: { name: keyof typeof PATHS }): VNode => (
  <svg viewBox="0 0 24 24" aria-hidden="true" class={`icon icon-${name}`}>
    <path d={PATHS[name]} />
  </svg>
);
