import { tokenizeWith } from '@speed-highlight/core/tokenize';
import bash from '@speed-highlight/core/languages/bash.js';
import html from '@speed-highlight/core/languages/html.js';
import javascript from '@speed-highlight/core/languages/js.js';
import json from '@speed-highlight/core/languages/json.js';
import typescript from '@speed-highlight/core/languages/ts.js';
import { byId, element, say } from './elements.js';
import { valueSpans } from './values.js';

type Language = Parameters<typeof tokenizeWith>[1];

const LANGUAGES: Record<string, { name: string; language: Language }> = {
  sh: { name: 'Terminal', language: bash },
  js: { name: 'JavaScript', language: javascript },
  ts: { name: 'TypeScript', language: typescript },
  jsx: { name: 'React', language: javascript },
  tsx: { name: 'React', language: typescript },
  html: { name: 'HTML', language: html },
  json: { name: 'JSON', language: json },
};
/** The address that the guide is written with. */
export const WRITTEN_ADDRESS = 'http://localhost:3000';

/** A block of code with its colours, the address that the page was opened under, and a button that copies it. */
export function codeBlock(written: string, fence: string, address: string): HTMLElement {
  const { name, language } = LANGUAGES[fence] ?? { name: 'Text', language: [] };
  const code = element('code');
  tokenizeWith(
    written.replaceAll(WRITTEN_ADDRESS, () => address),
    language,
    (text, type) => {
      const pieces = valueSpans(text);
      code.append(...(type ? [element('span', { class: `is-${type}` }, pieces)] : pieces));
    },
    { languages: { js: javascript } }, // of the expressions in a template's text
  );
  const copy = element('button', { type: 'button' }, 'Copy');
  copy.addEventListener('click', () => void copyText(code));
  const bar = element('div', { class: 'bar' }, element('span', {}, name));
  if (written.includes('<owner token>')) {
    const link = element(
      'a',
      { href: '#owner-token', class: 'wants-owner-token' },
      'Put in your owner token',
    );
    link.addEventListener('click', (event) => {
      event.preventDefault();
      byId('owner-token').focus();
    });
    bar.append(link);
  }
  bar.append(copy);
  return element(
    'figure',
    { class: 'code' },
    bar,
    element('pre', { tabindex: '0', role: 'group', 'aria-label': name }, code),
  );
}

async function copyText(code: HTMLElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(code.textContent); // there on https and on this machine only
    say('Copied');
  } catch {
    getSelection()?.selectAllChildren(code);
    say(document.execCommand('copy') ? 'Copied' : 'Selected: copy it with your keyboard');
  }
}
