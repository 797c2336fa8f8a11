import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';

/** A headless Chromium that has nothing of the machine's user and speaks to nobody by itself. */
export async function startBrowser(): Promise<Browser> {
  const executablePath = globalThis.CHROMIUM;
  if (executablePath === null)
    throw new Error('There is no chromium on the PATH and CHROMIUM_PATH is not set.');
  const home = mkdtempSync(join(tmpdir(), 'assistly-browser-'));
  const removeHome = (): void => rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  try {
    const browser = await chromium.launch({
      executablePath,
      timeout: 60_000, // a busy machine
      env: { PATH: process.env['PATH'] ?? '', HOME: home },
      args: [
        '--no-sandbox', // which root, as in many containers, cannot have
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    browser.once('disconnected', removeHome);
    return browser;
  } catch (error) {
    removeHome();
    throw error;
  }
}
