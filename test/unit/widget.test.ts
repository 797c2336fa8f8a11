import { gzipSync } from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import { readText } from '../support/deploy-files.mjs';

const script = readText('dist/web/widget.js');

describe('the widget', () => {
  it('is at most 2 kB', () => {
    expect(gzipSync(script).length).toBeLessThanOrEqual(2_000);
  });

  it('makes nothing out of text, neither code nor elements nor styles, and asks the network nothing', () => {
    expect(script).not.toMatch(
      /\beval\b|\bFunction\(|innerHTML|outerHTML|insertAdjacent|document\.write|srcdoc|createElement\("style"\)|setAttribute\("style"/,
    );
    expect(script).not.toMatch(
      /\bfetch\b|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\b|url\(|new Image/,
    );
    expect(script).not.toMatch(/localStorage|sessionStorage|cookie/);
  });

  it('draws itself large where its page does not scroll behind it', () => {
    const conditions = [...script.matchAll(/@media(\([^{]*)\{/g)].map(([, condition]) => condition);

    expect(conditions).toHaveLength(2); // the sheet of the widget, and that of the page
    expect(conditions[0]).toBe(conditions[1]);
  });
});
