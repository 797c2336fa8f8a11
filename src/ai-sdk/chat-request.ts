import type { SchemaObject } from '@nestjs/swagger';
import { AppError } from '../runtime/app-error.js';
import { clientMessageIdProblem, MAX_MESSAGE_LENGTH } from '../messages/create-message.dto.js';
import { hasAtMost } from '../http/text.js';

/** What clients of the AI SDK may ask a chat for. */
export const ChatTrigger = { Submit: 'submit-message', Regenerate: 'regenerate-message' } as const;
export type ChatTrigger = (typeof ChatTrigger)[keyof typeof ChatTrigger];

const ANY_OBJECT = { type: 'object', additionalProperties: true } as const;

/** The body, for the OpenAPI document: {@link readChatRequest} reads it, and ignores what it does not know. */
export const CHAT_REQUEST: SchemaObject = {
  ...ANY_OBJECT,
  properties: {
    trigger: { type: 'string', enum: Object.values(ChatTrigger), default: ChatTrigger.Submit },
    messages: {
      type: 'array',
      items: ANY_OBJECT,
      description:
        'The client’s messages, of which the last of role `user` is read: its `id` is its `clientMessageId`, its `parts` may hold text only.',
    },
    message: { ...ANY_OBJECT, description: 'That message alone, instead of `messages`.' },
    messageId: {
      type: 'string',
      description: 'With `regenerate-message`: the answer to be made anew, by the id of its reply.',
    },
    protocol: {
      type: 'integer',
      description:
        '`7` from clients that know `reset-step`; without it a stream whose answer begins anew ends in an error.',
    },
  },
};

/** What a client asks for. */
export interface ChatRequest {
  trigger: ChatTrigger;
  /** The user's message, where the client sent one. */
  question: { id: string; text: string } | null;
  /** The answer that is to be made anew, or the message that was changed, as the client names it. */
  messageId: string | null;
  /** Whether text that was shown can be taken back. */
  canReset: boolean;
}

/**
 * Reads the body of a chat.
 *
 * @throws AppError invalid_request
 */
export function readChatRequest(body: Record<string, unknown>): ChatRequest {
  const { trigger = ChatTrigger.Submit, messageId, protocol } = body;
  if (trigger !== ChatTrigger.Submit && trigger !== ChatTrigger.Regenerate) {
    throw refusal('/trigger', `must be ${ChatTrigger.Submit} or ${ChatTrigger.Regenerate}`);
  }
  const found = lastUserMessage(body);
  if (!found && trigger === ChatTrigger.Submit)
    throw refusal('/messages', 'must hold a message of role user');
  return {
    trigger,
    question: found && readQuestion(found.message, found.pointer),
    messageId: typeof messageId === 'string' ? messageId : null,
    canReset: protocol === 7,
  };
}

function lastUserMessage({
  messages,
  message,
}: Record<string, unknown>): { message: Record<string, unknown>; pointer: string } | null {
  if (isObject(message) && message['role'] === 'user') return { message, pointer: '/message' };
  if (!Array.isArray(messages)) return null;
  const index = messages.findLastIndex((each) => isObject(each) && each['role'] === 'user');
  return index < 0
    ? null
    : { message: messages[index] as Record<string, unknown>, pointer: `/messages/${index}` };
}

function readQuestion(message: Record<string, unknown>, pointer: string): { id: string; text: string } {
  const { id, parts } = message;
  const problem = clientMessageIdProblem(id);
  if (problem !== null) throw refusal(`${pointer}/id`, problem);
  if (!Array.isArray(parts)) throw refusal(`${pointer}/parts`, 'must be a list of parts');
  const texts = parts.map((part: unknown, index) => {
    const text = isObject(part) && part['type'] === 'text' ? part['text'] : null;
    if (typeof text !== 'string') throw refusal(`${pointer}/parts/${index}`, 'must be a part of text');
    return text;
  });
  const text = texts.join('');
  if (text.trim() === '') throw refusal(`${pointer}/parts`, 'must hold a text that is not blank');
  if (!hasAtMost(MAX_MESSAGE_LENGTH, text)) {
    throw refusal(`${pointer}/parts`, `must hold at most ${MAX_MESSAGE_LENGTH} characters`);
  }
  return { id: String(id), text };
}

/** The client shows the detail to people, so it says all. */
const refusal = (pointer: string, message: string): AppError =>
  new AppError('invalid_request', `This message cannot be sent: ${pointer} ${message}.`, {
    errors: [{ pointer, message }],
  });

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
