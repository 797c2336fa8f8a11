import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { waitFor } from '../../support/wait.js';
import { type Address, BLANK, type Host, type OpenClient, type Screen } from './host.js';

const MAIN = fileURLToPath(new URL('../clients/node.mjs', import.meta.url));

/** @param file the client's, in `clients/`; @param options what it gets beside the address */
export function nodeHost(file: string, options: Record<string, unknown> = {}): Host {
  const open = new Set<ChildProcess>();

  return {
    async open(address) {
      const screens: Screen[] = [];
      let child = await start(address, screens);
      const call = async (method: string, ...args: unknown[]): Promise<void> => {
        const id = crypto.randomUUID();
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        const listen = (message: Told): void => {
          if (message.id !== id) return;
          child.off('message', listen);
          if (message.error === undefined) resolve();
          else reject(new Error(message.error));
        };
        child.on('message', listen);
        child.send({ id, method, args });
        await promise;
      };
      const client: OpenClient = {
        screens,
        get screen() {
          return screens.at(-1) ?? BLANK;
        },
        send: (text) => call('send', text),
        press: (what) => call(what),
        async reload() {
          await end(child);
          child = await start(address, screens);
        },
        photograph: () => Promise.resolve(),
        close: () => end(child),
      };
      return client;
    },
    async close() {
      await Promise.all([...open].map(end));
    },
  };

  async function start({ api, session }: Address, screens: Screen[]): Promise<ChildProcess> {
    const { id, token } = session!;
    const given = { api: `${api}/v1/sessions/${id}/chat`, token, ...options };
    const child = fork(MAIN, [`./${file}`, JSON.stringify(given)], { execArgv: [] });
    open.add(child);
    let hasOpened = false;
    child.on('message', ({ screen, isOpen }: Told) => {
      if (screen) screens.push(screen);
      hasOpened ||= isOpen === true;
    });
    child.once('exit', () => open.delete(child));
    await waitFor('the client to open', () => hasOpened || !open.has(child), { timeoutMs: 60_000 });
    if (!hasOpened) throw new Error('the client has ended');
    return child;
  }

  async function end(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL'); // as a tab that is closed
    await once(child, 'exit');
  }
}

/** What the process tells. */
interface Told {
  id?: string;
  error?: string;
  isOpen?: boolean;
  screen?: Screen;
}
