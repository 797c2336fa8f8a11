/** The closed sets of a reply's life, as clients see them (API.md, Resources). */

export const ReplyStatus = {
  Queued: 'queued',
  InProgress: 'in_progress',
  Completed: 'completed',
  Failed: 'failed',
  Cancelled: 'cancelled',
} as const;
export type ReplyStatus = (typeof ReplyStatus)[keyof typeof ReplyStatus];

export const FINAL_STATUSES: readonly ReplyStatus[] = [
  ReplyStatus.Completed,
  ReplyStatus.Failed,
  ReplyStatus.Cancelled,
];

export const ReplyFinishReason = {
  Stop: 'stop',
  Length: 'length',
  ContentFilter: 'content_filter',
  Cancelled: 'cancelled',
  /** The chatbot's budget of the day is spent: its message says so, and no model was asked. */
  Budget: 'budget',
} as const;
export type ReplyFinishReason = (typeof ReplyFinishReason)[keyof typeof ReplyFinishReason];

export const ReplyErrorCode = {
  ProviderTimeout: 'provider_timeout',
  ProviderUnavailable: 'provider_unavailable',
  ProviderRateLimited: 'provider_rate_limited',
  ProviderRejected: 'provider_rejected',
  ContextTooLong: 'context_too_long',
  EmptyReply: 'empty_reply',
  Expired: 'expired',
  Internal: 'internal',
} as const;
export type ReplyErrorCode = (typeof ReplyErrorCode)[keyof typeof ReplyErrorCode];

/** Who asked for a reply to be stopped. */
export const CancelledBy = { Guest: 'guest', Owner: 'owner' } as const;
export type CancelledBy = (typeof CancelledBy)[keyof typeof CancelledBy];

/** Why an attempt ended that its own worker did not end: beside the error codes. */
export const LostReason = {
  /** Its lease ran out. */
  WorkerLost: 'worker_lost',
  /** It was given back: the process stopped, or the attempt did not come to ask the model. */
  WorkerStopped: 'worker_stopped',
} as const;
export type LostReason = (typeof LostReason)[keyof typeof LostReason];
