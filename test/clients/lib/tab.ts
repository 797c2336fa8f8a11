import type { BrowserContext, FrameLocator, Page } from 'playwright-core';
import { waitFor } from '../../support/wait.js';
import { BLANK, type OpenClient, type Press, type Screen } from './host.js';

/** A page in a browser, and how a person uses the chat on it. */
export interface Tab {
  url: string;
  /** In the page, and in each frame of it: what there is to see; null where that is no chat, or not yet. */
  look: () => Screen | null;
  /** What its buttons are called. */
  buttons: Partial<Record<Press, string>>;
  /** Where the chat is; default: the page itself. */
  chat?: (page: Page) => FrameLocator;
  /** Loads what has to be loaded by hand, after the page itself, by `load`. */
  arrive?: (page: Page, load: () => Promise<unknown>) => Promise<void>;
}

/** Opens a page as a client. It closes with its context. */
export async function openTab(
  context: BrowserContext,
  { url, look, buttons, chat, arrive = async (_, load) => void (await load()) }: Tab,
): Promise<OpenClient> {
  const page = await context.newPage();
  const screens: Screen[] = [];
  const thrown: string[] = [];
  page.on('pageerror', (error) => thrown.push(String(error)));
  await page.exposeFunction('show', (screen: Screen) => void screens.push(screen));
  await page.addInitScript({ content: `(${watchScreen.toString()})(${look.toString()})` });
  await arrive(page, () => page.goto(url));
  const place = chat?.(page) ?? page;
  const press = (name: string): Promise<void> =>
    place.getByRole('button', { name, exact: true }).last().click();
  return {
    get screens() {
      if (thrown.length > 0) throw new Error(`the page has thrown: ${thrown.join(' | ')}`);
      return screens;
    },
    get screen() {
      return screens.at(-1) ?? BLANK;
    },
    async send(text) {
      await place.getByLabel('Message', { exact: true }).fill(text);
      await press('Send');
    },
    press: (what) => press(buttons[what]!),
    async reload() {
      const before = screens.length;
      await arrive(page, () => page.reload());
      await waitFor('the page to show something', () => screens.length > before);
    },
    async photograph(name) {
      await page.screenshot({ path: name });
    },
    close: () => context.close(),
  };
}

/** In the page: tells of each change of what is on it. */
function watchScreen(look: () => Screen | null): void {
  const { document, MutationObserver, show } = globalThis as any;
  let before = '';
  new MutationObserver(() => {
    const screen = look();
    const text = JSON.stringify(screen);
    if (screen === null || text === before) return;
    before = text;
    show(screen);
  }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
}
