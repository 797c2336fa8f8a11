import { EventType } from './event-stream.js';
import type { DeltaEntry, FactEntry } from './event-stream.js';

/**
 * The entries of the event stream, each made in one place, so that whoever publishes a fact (api,
 * worker, reconciler) gives it the same natural key, and a fact that is published twice is appended once. The shapes of `data` are the
 * contract's (API.md, Events).
 */

interface MessageLike {
  id: string;
  content: string;
}

interface ReplyLike {
  id: string;
  attempt: number;
}

/** A user's message; an AI message comes with its reply. */
export function messageCreated(message: MessageLike): FactEntry {
  return {
    type: EventType.MessageCreated,
    key: `${EventType.MessageCreated}:${message.id}`,
    data: { message },
  };
}

export function replyQueued(reply: ReplyLike): FactEntry {
  return { type: EventType.ReplyQueued, key: `${EventType.ReplyQueued}:${reply.id}`, data: { reply } };
}

/** An attempt begins; the text of a lower one is dropped. */
export function replyStarted({ replyId, attempt }: { replyId: string; attempt: number }): FactEntry {
  return {
    type: EventType.ReplyStarted,
    key: `${EventType.ReplyStarted}:${replyId}:${attempt}`,
    data: { replyId, attempt },
    reply: { id: replyId, attempt, effect: 'start', length: null },
  };
}

/** An attempt is over, and another will come; what was shown of it stays until that one starts. */
export interface Retrying {
  replyId: string;
  attempt: number;
  /** An error code, or why its worker did not end it itself. */
  reason: string;
  /** When the next attempt may start, ISO 8601; null: as soon as somebody takes it. */
  retryAt: string | null;
}

export function replyRetrying(data: Retrying): FactEntry {
  const { replyId, attempt } = data;
  return {
    type: EventType.ReplyRetrying,
    key: `${EventType.ReplyRetrying}:${replyId}:${attempt}`,
    data,
    reply: { id: replyId, attempt, effect: 'pause', length: null },
  };
}

/** A piece of text; `offset` in UTF-16 units of this attempt. */
export function replyDelta(delta: Omit<DeltaEntry, 'type'>): DeltaEntry {
  const { replyId, attempt, offset, text } = delta;
  return { type: EventType.ReplyDelta, replyId, attempt, offset, text };
}

/**
 * The deltas of the last attempt must by then add up to the message.
 *
 * @param superseded the messages that it is instead of
 */
export function replyCompleted(
  reply: ReplyLike,
  message: MessageLike,
  superseded: readonly string[] = [],
): FactEntry {
  const data = { reply, message, superseded };
  return replyEnded(EventType.ReplyCompleted, reply, data, message.content.length);
}

/** Without a message nothing is kept of what was shown, so its length does not matter. */
export function replyCancelled(reply: ReplyLike, message: MessageLike | null): FactEntry {
  return replyEnded(EventType.ReplyCancelled, reply, { reply, message }, message?.content.length ?? null);
}

export function replyFailed(reply: ReplyLike): FactEntry {
  return replyEnded(EventType.ReplyFailed, reply, { reply, message: null }, null);
}

/** The last entry of a session; `EventStream.erase` writes it. */
export function sessionDeleted(): FactEntry {
  return { type: EventType.SessionDeleted, key: EventType.SessionDeleted, data: {} };
}

function replyEnded(
  type: FactEntry['type'],
  reply: ReplyLike,
  data: object,
  length: number | null,
): FactEntry {
  return {
    type,
    key: `${type}:${reply.id}:${reply.attempt}`,
    data,
    reply: { id: reply.id, attempt: reply.attempt, effect: 'end', length },
  };
}
