import type { TrackedReply } from './conversation.js';
import type { ChatStatus } from './chat-types.js';
import type { ChatProblem } from './problem.js';
import type { Message, SessionEvent } from './wire.js';

/** The guest's credential for one session. */
export interface Session {
  readonly id: string;
  readonly token: string;
}

/** What the tabs of one chat tell each other. The one that leads holds the stream, the others hear what it reads. */
export type TabMessage =
  /** A new tab asks for the state; `isWanted`: and for a session. Also asked by one that lacks a piece of text. */
  | { type: 'hello'; isWanted: boolean }
  /** The leader's state, for whoever does not have it yet. */
  | {
      type: 'state';
      status: ChatStatus;
      error: ChatProblem | null;
      session: Session | null;
      cursor: string | null;
      messages: readonly Message[];
      replies: readonly TrackedReply[];
    }
  | { type: 'event'; sessionId: string; event: SessionEvent }
  | { type: 'cursor'; sessionId: string; cursor: string }
  /** A tab was refused: that session is over. */
  | { type: 'gone'; sessionId: string; problem: ChatProblem };

export interface Tabs {
  tell(message: TabMessage): void;
  leave(): void;
}

export interface TabsOptions {
  name: string;
  /** This tab leads from now on, until it leaves. */
  onLead: () => void;
  onMessage: (message: TabMessage) => void;
}

/** Whether this browser can keep its tabs in step. */
export const canShare = (): boolean =>
  typeof BroadcastChannel === 'function' && typeof navigator === 'object' && navigator.locks !== undefined;

/**
 * The tabs of one chat, of which one leads: the one that has the lock. The browser gives it to the next when that tab is
 * gone, however it went.
 */
export function joinTabs({ name, onLead, onMessage }: TabsOptions): Tabs {
  const channel = new BroadcastChannel(name);
  channel.addEventListener('message', ({ data }: MessageEvent<TabMessage>) => onMessage(data));
  const leaving = new AbortController();
  const left = new Promise<void>((resolve) => {
    leaving.signal.addEventListener('abort', () => resolve());
  });
  navigator.locks
    .request(name, { signal: leaving.signal }, () => {
      onLead();
      return left;
    })
    .catch(() => {
      // It left while it waited; or there are no locks after all, and so it is on its own.
      if (!leaving.signal.aborted) onLead();
    });
  return {
    tell: (message) => {
      if (!leaving.signal.aborted) channel.postMessage(message);
    },
    leave: () => {
      leaving.abort();
      channel.close();
    },
  };
}

/** A tab on its own, which leads at once. */
export function aloneInTab({ onLead }: Pick<TabsOptions, 'onLead'>): Tabs {
  let hasLeft = false;
  // Not within the call that makes the chat: who closes it in the same breath has opened nothing.
  queueMicrotask(() => {
    if (!hasLeft) onLead();
  });
  return {
    tell: () => undefined,
    leave: () => {
      hasLeft = true;
    },
  };
}
