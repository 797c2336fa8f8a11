import type { ReplyDelay, TrackedReply } from './conversation.js';
import type { ChatProblem } from './problem.js';
import type { ChatStorage } from './storage.js';
import type { Timings } from './timings.js';

/**
 * - `idle`: nothing was opened yet (`open: 'lazy'`); the first `send` does
 * - `opening`: the session is being opened or restored
 * - `open`: what happens is shown as it happens
 * - `reconnecting`: the stream was lost and comes back by itself; messages are kept and sent
 * - `ended`: there is no session any more, or none could be opened (`error` says why); the next `send` opens one
 * - `closed`: `close()` was called
 */
export type ChatStatus = 'idle' | 'opening' | 'open' | 'reconnecting' | 'ended' | 'closed';

export interface ChatMessage {
  /** Stays the same for as long as the message is shown. Of an answer it is the id of its reply. */
  readonly key: string;
  /** The message's id at the server; null until it is stored. */
  readonly id: string | null;
  readonly sender: string;
  readonly content: string;
  readonly replyId: string | null;
  readonly createdAt: string | null;
  /** Of the messages that are sent from here; all others are `sent`. */
  readonly state: 'sending' | 'sent' | 'not_sent';
  /** Why it was not sent. */
  readonly problem: ChatProblem | null;
}

/** The reply that is being made, or the last one. */
export interface ChatReply {
  readonly id: string;
  /** `queued`, `in_progress`, `completed`, `failed` or `cancelled`. */
  readonly status: TrackedReply['status'];
  /** What was written so far; empty once it is a message. */
  readonly text: string;
  /** There is a pause: why, and until when. */
  readonly delay: ReplyDelay | null;
  /** The reply that this one is made instead of. */
  readonly retryOf: string | null;
  readonly finishReason: TrackedReply['finishReason'];
  /** Why it failed. */
  readonly error: TrackedReply['error'];
}

/** What a chat shows. Never changed: a change makes a new one, and what is the same in it is the same object. */
export interface ChatSnapshot {
  readonly status: ChatStatus;
  readonly messages: readonly ChatMessage[];
  readonly reply: ChatReply | null;
  /** Why the last thing that was tried did not work; null when something has worked since. */
  readonly error: ChatProblem | null;
  /** Whether there are messages before the first. */
  readonly hasEarlier: boolean;
}

export interface ChatOptions {
  /** Where the API is, as `https://chat.example.com`. */
  baseUrl: string;
  chatbotId: string;
  /** Who writes, as far as that is known. */
  guest?: { name?: string; email?: string };
  /** For a verified guest: gives a token that the chatbot's owner has signed. Asked for whenever one is needed. */
  identity?: () => Promise<string>;
  /** Keeps several chats with one chatbot apart, in the storage and between tabs: any text. Default: the only one. */
  conversation?: string;
  /** Where the session is kept over a reload. Default: `localStorage`, or memory where there is none. */
  storage?: ChatStorage;
  /** Default: the global one. */
  fetch?: typeof globalThis.fetch;
  /** `now` (default): the session is opened at once, for its greeting. `lazy`: at the first `send`, unless one is stored. */
  open?: 'now' | 'lazy';
  /** For tests. */
  timings?: Partial<Timings>;
}

/** Each may be passed on without its object. */
export interface ChatActions {
  /** Sends a message, once, for as long as the network takes. @returns its key */
  readonly send: (text: string) => string;
  /** Sends a message again that was `not_sent`, under its own id. @param key of the message */
  readonly resend: (key: string) => void;
  /** Stops the reply that is being made, also that of a message that is still on its way. */
  readonly stop: () => Promise<void>;
  /** Asks again after a reply that failed or was stopped. */
  readonly retry: () => Promise<void>;
  /** Asks for another answer than the last one, which goes when the new one is complete. */
  readonly regenerate: () => Promise<void>;
  /** Loads older messages, where `hasEarlier` says that there are some. */
  readonly loadEarlier: () => Promise<void>;
}

export interface Chat extends ChatSnapshot, ChatActions {
  /** @returns what ends it */
  readonly subscribe: (listener: () => void) => () => void;
  readonly getSnapshot: () => ChatSnapshot;
  /** Ends it here. The session stays, and so does what is not sent: the next chat with the same storage goes on. */
  readonly close: () => void;
}
