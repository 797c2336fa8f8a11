export { createChat, storedAs } from './chat.js';
export type {
  Chat,
  ChatActions,
  ChatMessage,
  ChatOptions,
  ChatReply,
  ChatSnapshot,
  ChatStatus,
} from './chat-types.js';
export type { ReplyDelay } from './conversation.js';
export type { ChatProblem } from './problem.js';
export type { ChatStorage } from './storage.js';
export type { Timings } from './timings.js';
