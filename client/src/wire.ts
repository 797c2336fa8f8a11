import type * as api from './generated/types.gen.js';

/** What the API answers, as this client reads it. */
export type {
  Message,
  OpenedSession,
  PostedMessage,
  Reply,
  SessionEvent,
  SnapshotReply,
} from './generated/types.gen.js';

export type MessagePage = api.ListMessagesResponse;
