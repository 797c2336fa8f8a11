import type { Message, Reply, SessionEvent, SnapshotReply } from './wire.js';

/**
 * What a session holds, as far as this client knows, and what each event changes in it. Pure, and forgiving: an event may
 * come again, or tell what a snapshot or another request's answer has told already. So messages go by their id, text by
 * its attempt and offset, and what is final stays as it is.
 */
export interface Conversation {
  /** By `sequence`; superseded ones too. */
  readonly messages: readonly Message[];
  /** Oldest first. */
  readonly replies: readonly TrackedReply[];
  /** A piece of text is missing: only a snapshot helps. */
  readonly hasGap: boolean;
}

export interface TrackedReply {
  readonly id: string;
  readonly status: Reply['status'];
  readonly attempt: number;
  /** What was generated so far, by the attempt that `attempt` names; empty once it is a message. */
  readonly text: string;
  readonly retryOf: string | null;
  readonly finishReason: Reply['finishReason'];
  readonly error: Reply['error'];
  /** Why there is a pause, until the next attempt begins. */
  readonly delay: ReplyDelay | null;
}

export interface ReplyDelay {
  /** A code of `Reply.error`, `worker_lost` or `worker_stopped`. */
  readonly reason: string;
  /** When the next attempt may begin; null: as soon as a worker is free. */
  readonly retryAt: string | null;
}

export const EMPTY: Conversation = { messages: [], replies: [], hasGap: false };

export const isFinal = ({ status }: Pick<TrackedReply, 'status'>): boolean =>
  status === 'completed' || status === 'failed' || status === 'cancelled';

/** The reply to show: the first that is not final, else the last. */
export const currentReply = ({ replies }: Conversation): TrackedReply | null =>
  replies.find((reply) => !isFinal(reply)) ?? replies.at(-1) ?? null;

/** @returns the same object where the event changes nothing */
export function applyEvent(before: Conversation, event: SessionEvent): Conversation {
  switch (event.event) {
    case 'session.snapshot':
      return withSnapshot(before, event.data.messages, event.data.replies.map(track));
    case 'message.created':
      return withMessage(before, event.data.message);
    case 'reply.queued':
      return withReply(before, event.data.reply);
    case 'reply.completed':
    case 'reply.cancelled':
    case 'reply.failed': {
      const { reply, message } = event.data;
      const superseded = event.event === 'reply.completed' ? (event.data.superseded ?? []) : []; // none of an older worker
      const ended = withReply(message ? withMessage(before, message) : before, reply);
      return superseded.length > 0 ? withSuperseded(ended, superseded, reply.id) : ended;
    }
    case 'reply.started': {
      const { replyId, attempt } = event.data;
      return changeReply(before, replyId, (reply) => ({
        ...(attempt > reply.attempt ? { ...reply, attempt, text: '' } : reply),
        status: 'in_progress',
        delay: attempt >= reply.attempt ? null : reply.delay,
      }));
    }
    case 'reply.retrying': {
      const { replyId, attempt, reason, retryAt } = event.data;
      return changeReply(before, replyId, (reply) =>
        attempt < reply.attempt
          ? reply
          : {
              ...reply,
              attempt,
              text: attempt > reply.attempt ? '' : reply.text,
              delay: { reason, retryAt },
            },
      );
    }
    case 'reply.delta':
      return withDelta(before, event.data);
    default:
      return before; // of a later version
  }
}

/** A message is as it is: what is known already is kept. */
export function withMessage(before: Conversation, message: Message): Conversation {
  if (before.messages.some(({ id }) => id === message.id)) return before;
  const messages = sorted([...before.messages, message]);
  const replies = before.replies.map((reply) =>
    isFinal(reply) && reply.id === message.replyId && reply.text !== '' ? { ...reply, text: '' } : reply,
  );
  return { ...before, messages, replies };
}

/** A reply as a request or an event has told it: new, or final. */
export function withReply(before: Conversation, reply: Reply): Conversation {
  const known = before.replies.find(({ id }) => id === reply.id);
  if (known && (isFinal(known) || !isFinal(reply))) return dropTextOfMessage(before, reply.id);
  const now: TrackedReply = known
    ? { ...track(reply), text: reply.status === 'failed' ? '' : known.text }
    : track(reply);
  const next = {
    ...before,
    messages: reply.retryOf === null ? before.messages : answeredBy(before.messages, reply.retryOf, reply.id),
    replies: known
      ? before.replies.map((one) => (one === known ? now : one))
      : [...before.replies, now].sort((a, b) => (a.id < b.id ? -1 : 1)),
  };
  return dropTextOfMessage(next, reply.id);
}

/** Messages that were fetched: those before the ones that are here. */
export const withEarlier = (before: Conversation, earlier: readonly Message[]): Conversation => ({
  ...before,
  messages: merged(before.messages, earlier),
});

/**
 * The conversation as it was elsewhere: in the rows, or in another tab. Text is as long as the longer of the two, since
 * what follows says its offset; and who knows an end keeps it.
 */
export function withSnapshot(
  before: Conversation,
  messages: readonly Message[],
  replies: readonly TrackedReply[],
): Conversation {
  const [first] = messages;
  const last = before.messages.at(-1);
  // More was said meanwhile than a snapshot holds: what is here would stand before a hole.
  const hasHole = first !== undefined && last !== undefined && last.sequence + 1 < first.sequence;
  const known = new Map(before.replies.map((reply) => [reply.id, reply]));
  const newest = replies.at(-1);
  const kept = before.replies.filter(
    ({ id }) => (newest === undefined || id > newest.id) && !replies.some((reply) => reply.id === id),
  );
  return {
    messages: hasHole ? messages : merged(before.messages, messages),
    replies: [
      ...replies.map((reply): TrackedReply => {
        const own = known.get(reply.id);
        if (own === undefined) return reply;
        if (isFinal(own)) return own;
        if (isFinal(reply) || own.attempt !== reply.attempt) return reply;
        const now = {
          ...reply,
          text: own.text.length > reply.text.length ? own.text : reply.text,
          delay: reply.delay ?? own.delay,
        };
        return isSameReply(own, now) ? own : now;
      }),
      ...kept,
    ],
    hasGap: false,
  };
}

const track = (reply: Reply | SnapshotReply): TrackedReply => ({
  id: reply.id,
  status: reply.status,
  attempt: reply.attempt,
  text: ('text' in reply ? reply.text : undefined) ?? '',
  retryOf: reply.retryOf,
  finishReason: reply.finishReason,
  error: reply.error,
  delay: ('delay' in reply ? reply.delay : undefined) ?? null,
});

const unheardOf = (id: string): TrackedReply => ({
  id,
  status: 'queued',
  attempt: 0,
  text: '',
  retryOf: null,
  finishReason: null,
  error: null,
  delay: null,
});

/** Changes one that is not final, or one that was not heard of before. */
function changeReply(
  before: Conversation,
  id: string,
  change: (reply: TrackedReply) => TrackedReply,
): Conversation {
  const known = before.replies.find((reply) => reply.id === id);
  if (known && isFinal(known)) return before;
  const now = change(known ?? unheardOf(id));
  if (known && isSameReply(known, now)) return before;
  return {
    ...before,
    replies: known
      ? before.replies.map((reply) => (reply === known ? now : reply))
      : [...before.replies, now],
  };
}

function withDelta(
  before: Conversation,
  { replyId, attempt, offset, text }: { replyId: string; attempt: number; offset: number; text: string },
): Conversation {
  let hasGap = false;
  const after = changeReply(before, replyId, (reply) => {
    if (attempt < reply.attempt) return reply; // of one that was replaced
    const shown = attempt > reply.attempt ? '' : reply.text;
    if (offset > shown.length) hasGap = true;
    return {
      ...reply,
      status: 'in_progress',
      attempt,
      delay: null,
      text: offset + text.length <= shown.length ? shown : shown.slice(0, offset) + text,
    };
  });
  return hasGap ? { ...before, hasGap } : after;
}

/** The end of a reply may be known before its message: its text goes when that has come. */
function dropTextOfMessage(before: Conversation, replyId: string): Conversation {
  const hasMessage = before.messages.some(
    (message) => message.sender === 'ai' && message.replyId === replyId,
  );
  if (!hasMessage || !before.replies.some(({ id, text }) => id === replyId && text !== '')) return before;
  return {
    ...before,
    replies: before.replies.map((reply) => (reply.id === replyId ? { ...reply, text: '' } : reply)),
  };
}

const withSuperseded = (before: Conversation, ids: readonly string[], by: string): Conversation => ({
  ...before,
  messages: before.messages.map((message) =>
    ids.includes(message.id) ? { ...message, supersededBy: by } : message,
  ),
});

/** A retry answers the same messages. */
const answeredBy = (messages: readonly Message[], formerReply: string, reply: string): readonly Message[] =>
  messages.map((message) =>
    message.sender === 'user' && message.replyId === formerReply ? { ...message, replyId: reply } : message,
  );

const sorted = (messages: readonly Message[]): readonly Message[] =>
  [...messages].sort((a, b) => a.sequence - b.sequence);

/** By id; the newer account of a message wins, unless it says the same. */
function merged(before: readonly Message[], newer: readonly Message[]): readonly Message[] {
  const byId = new Map(before.map((message) => [message.id, message]));
  for (const message of newer) {
    const known = byId.get(message.id);
    if (!known || !isSame(known, message)) byId.set(message.id, message);
  }
  return sorted([...byId.values()]);
}

const isSameReply = (one: TrackedReply, other: TrackedReply): boolean =>
  one.status === other.status &&
  one.attempt === other.attempt &&
  one.text === other.text &&
  one.delay?.reason === other.delay?.reason &&
  one.delay?.retryAt === other.delay?.retryAt;

const isSame = (one: Message, other: Message): boolean =>
  one.replyId === other.replyId && one.supersededBy === other.supersededBy;
