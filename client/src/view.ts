import type { ChatMessage, ChatReply, ChatSnapshot, ChatStatus } from './chat-types.js';
import { type Conversation, currentReply, type TrackedReply } from './conversation.js';
import type { Unsent } from './outbox.js';
import type { ChatProblem } from './problem.js';
import type { Message } from './wire.js';

export interface ViewInput {
  status: ChatStatus;
  error: ChatProblem | null;
  /** Of sessions that have ended. */
  history: readonly ChatMessage[];
  conversation: Conversation;
  unsent: readonly Unsent[];
}

/** Each is shown by one object for as long as it is the same. */
const shownMessages = new WeakMap<Message | Unsent, ChatMessage>();
const shownReplies = new WeakMap<TrackedReply, ChatReply>();
/** The same without the text, which their messages show. */
const shownAnswered = new WeakMap<TrackedReply, ChatReply>();

/**
 * @param before the last one, of which everything that is the same is kept
 * @returns `before` where nothing is different
 */
export function toSnapshot(
  { status, error, history, conversation, unsent }: ViewInput,
  before?: ChatSnapshot,
): ChatSnapshot {
  const reply = currentReply(conversation);
  const ids = new Set(conversation.messages.map(({ clientMessageId }) => clientMessageId));
  const next: ChatSnapshot = {
    status,
    error,
    messages: [
      ...history,
      ...conversation.messages.filter((message) => !message.supersededBy).map(showMessage),
      ...unsent.filter(({ id }) => !ids.has(id)).map(showUnsent),
    ],
    reply: reply && showReply(reply, hasMessage(conversation, reply)),
    hasEarlier: (conversation.messages[0]?.sequence ?? 1) > 1,
  };
  if (!before) return next;
  const messages = isSameList(before.messages, next.messages) ? before.messages : next.messages;
  const isSame =
    messages === before.messages &&
    next.reply === before.reply &&
    status === before.status &&
    error === before.error &&
    next.hasEarlier === before.hasEarlier;
  return isSame ? before : { ...next, messages };
}

/** What is shown of a session that has ended; a reply stays as far as it has come. */
export function toHistory(conversation: Conversation): ChatMessage[] {
  const { messages } = toSnapshot({ status: 'ended', error: null, history: [], conversation, unsent: [] });
  const cut = conversation.replies
    .filter((reply) => reply.text !== '' && !hasMessage(conversation, reply))
    .map(({ id, text }): ChatMessage => ({
      key: id,
      id: null,
      sender: 'ai',
      content: text,
      replyId: id,
      createdAt: null,
      state: 'sent',
      problem: null,
    }));
  return [...messages, ...cut];
}

function showMessage(message: Message): ChatMessage {
  const { id, sender, content, replyId, createdAt, clientMessageId } = message;
  return remember(shownMessages, message, () => ({
    key: (sender === 'user' ? clientMessageId : replyId) ?? id,
    id,
    sender,
    content,
    replyId,
    createdAt,
    state: 'sent',
    problem: null,
  }));
}

function showUnsent(unsent: Unsent): ChatMessage {
  const { id, content, state, problem } = unsent;
  return remember(shownMessages, unsent, () => ({
    key: id,
    id: null,
    sender: 'user',
    content,
    replyId: null,
    createdAt: null,
    state,
    problem,
  }));
}

/** A snapshot may hold the message of a reply that it has as unfinished: the rows were read one after the other. */
const hasMessage = ({ messages }: Conversation, { id }: TrackedReply): boolean =>
  messages.some(({ sender, replyId }) => sender === 'ai' && replyId === id);

function showReply(reply: TrackedReply, isAnswered: boolean): ChatReply {
  const { id, status, delay, retryOf, finishReason, error } = reply;
  const text = isAnswered ? '' : reply.text;
  const known = isAnswered ? shownAnswered : shownReplies;
  return remember(known, reply, () => ({ id, status, text, delay, retryOf, finishReason, error }));
}

function remember<K extends object, V>(known: WeakMap<K, V>, key: K, make: () => V): V {
  const value = known.get(key) ?? make();
  known.set(key, value);
  return value;
}

const isSameList = (one: readonly unknown[], other: readonly unknown[]): boolean =>
  one.length === other.length && one.every((item, index) => item === other[index]);
