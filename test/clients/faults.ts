import { expect } from '@jest/globals';
import type { ProviderCall } from '../support/raw-provider.js';
import { waitFor } from '../support/wait.js';
import type { OpenClient, Screen } from './lib/host.js';
import type { Stage } from './lib/stage.js';

/** One conversation of a client, in the middle of its first answer. */
export interface Cell {
  stage: Stage;
  question: string;
  sessionId: string;
  /** Of the same session; the first is the one that has asked. */
  devices: OpenClient[];
  /** The call of the model, which waits in mid-answer. */
  call: ProviderCall;
  openAnother: () => Promise<OpenClient>;
  /** Does something once for all the conversations of now, when all of them have come so far. */
  together: (work: () => Promise<void>) => Promise<void>;
}

/** The answer that a person sees. */
export const textOf = ({ messages }: Screen): string =>
  messages.findLast(({ role }) => role === 'assistant')?.text ?? '';

/** A client that has shown no change so long after the next attempt began will show none. */
const UNSEEN_MS = 10_000;

/** One column of the table. */
export interface Fault {
  /** As README.md explains it. */
  name: string;
  /** How often the model is called; default: once. */
  calls?: number;
  /** Whether the answer ends where it is. */
  stops?: boolean;
  /** Whether it is played on Redis too: where the event stream or the queue has a part in it. */
  onRedis?: boolean;
  /** Before the question is sent. */
  prepare?(cell: Pick<Cell, 'stage' | 'question'>): void;
  /** In the middle of the answer. */
  strike(cell: Cell): Promise<void> | void;
}

export const FAULTS: readonly Fault[] = [
  {
    name: 'reload',
    strike: ({ devices: [device] }) => device!.reload(),
  },
  {
    name: 'cut',
    onRedis: true,
    strike: ({ stage, sessionId }) => stage.gate.cut(sessionId),
  },
  {
    name: 'clean end',
    strike: ({ stage, sessionId }) => stage.gate.endCleanly(sessionId),
  },
  {
    name: 'api killed',
    onRedis: true,
    strike: ({ stage, together }) => together(() => stage.killApi()),
  },
  {
    name: 'worker killed',
    onRedis: true,
    calls: 2,
    strike: async ({ stage, question, together, devices: [device] }) => {
      const { screens } = device!;
      const [shown, text] = [screens.length, textOf(screens.at(-1)!)];
      await together(() => stage.killWorker());
      // The next attempt has been heard of: what stood there is gone, or it is said that it will be. On a busy machine a page
      // may draw its beginning and the same first words at once, and then shows no change, long after it has begun.
      let begunAt: number | null = null;
      await waitFor(
        'the next attempt',
        () => {
          const calls = stage.provider.calls.filter((call) => call.question === question).length;
          if (calls > 1) begunAt ??= Date.now();
          return (
            screens.slice(shown).some((screen) => screen.status === 'error' || textOf(screen) !== text) ||
            (begunAt !== null && Date.now() - begunAt > UNSEEN_MS)
          );
        },
        { timeoutMs: 60_000 },
      );
    },
  },
  {
    name: 'second device',
    strike: async ({ devices, openAnother }) => void devices.push(await openAnother()),
  },
  {
    name: 'stop',
    onRedis: true,
    stops: true,
    strike: async ({ devices: [device], call }) => {
      await device!.press('stop');
      expect(await call.ended).toBe('client');
    },
  },
  {
    name: 'sent twice',
    prepare: ({ stage, question }) => stage.gate.sendTwice(question),
    strike: () => undefined,
  },
];
