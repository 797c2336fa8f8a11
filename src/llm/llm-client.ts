/** One turn of a chat-completions conversation. */
export interface ChatTurn {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface LlmRequest {
  /** The chatbot's own model; null: the configured default. */
  model: string | null;
  /** What the model is told: the prompt, the history and the messages to answer, oldest first. */
  turns: readonly ChatTurn[];
  /** The chatbot's facts that went into the prompt, as data, for a client that does not read prose. */
  characteristics: readonly string[];
  /** Aborting it closes the provider's connection; the iteration then throws `signal.reason`. */
  signal: AbortSignal;
}

export const FinishReason = { Stop: 'stop', Length: 'length', ContentFilter: 'content_filter' } as const;
export type FinishReason = (typeof FinishReason)[keyof typeof FinishReason];

/** One step of an answer. The finish and the usage come once, after the last text, in this order. */
export type LlmChunk =
  | { type: 'text'; text: string }
  | {
      type: 'finish';
      reason: FinishReason;
      isRefusal: boolean;
      /** The model that answered, where the provider says so. */
      model?: string;
      /** Whether the model has thought, which is no text. */
      hasThought?: boolean;
      /** The provider's word for why it ended, where nobody here knows it: it counts as whole, and is to be told. */
      unknownReason?: string;
    }
  /** Null: the provider has sent no count that can be one. */
  | { type: 'usage'; inputTokens: number | null; outputTokens: number | null };

/**
 * The port to a language model. An iteration that ends without a `finish` chunk was cut off, whatever the
 * provider says: the caller must not take its text for an answer. It throws only {@link LlmError}, or the
 * abort signal's reason, and ends within the configured deadlines.
 */
export abstract class LlmClient {
  /** The name that a reply records for this request: what will be asked, before anything is sent. */
  abstract modelFor(request: Pick<LlmRequest, 'model'>): string;
  /** Stopping the iteration early closes the provider's connection, as aborting the signal does. */
  abstract stream(request: LlmRequest): AsyncIterable<LlmChunk>;
  /** Closes every connection; calls under way fail. For the shutdown, once the replies are handed back. */
  async close(): Promise<void> {}
}

/** Why a call failed; each is a `ReplyErrorCode` too. */
export const LlmErrorCode = {
  ProviderTimeout: 'provider_timeout',
  ProviderUnavailable: 'provider_unavailable',
  ProviderRateLimited: 'provider_rate_limited',
  ProviderRejected: 'provider_rejected',
  ContextTooLong: 'context_too_long',
  EmptyReply: 'empty_reply',
} as const;
export type LlmErrorCode = (typeof LlmErrorCode)[keyof typeof LlmErrorCode];

/** The part of a provider's error that is made for programs, as far as it has the shape of it. */
export interface ProviderAnswer {
  status?: number;
  code?: string;
  type?: string;
  param?: string;
  /** By which the provider's support finds the call. */
  requestId?: string;
}

/** A failed call, classified once, so that nobody else has to know a provider's errors. */
export class LlmError extends Error {
  constructor(
    /** What the guest is told. */
    readonly code: LlmErrorCode,
    /** For the log only: it may quote the provider, and never reaches a response. */
    message: string,
    readonly options: {
      isRetryable: boolean;
      /** How long the provider asked to be left alone, in milliseconds. */
      retryAfterMs?: number;
      /** What the provider answered, without its prose. */
      answer?: ProviderAnswer;
      /** Set where the message is not our own. */
      cause?: unknown;
    },
  ) {
    super(message, { cause: options.cause });
    this.name = 'LlmError';
  }
}
