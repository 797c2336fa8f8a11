import recorded from './examples.json' with { type: 'json' };

/**
 * One conversation with the real product: what was sent, and what it answered. `npm run openapi:examples` records it
 * again; a test plays it and holds the answers against these.
 */
export interface Examples {
  /** By operation. */
  answers: Record<string, AnswerExample>;
  /** A stream from its beginning, as it comes over the wire. */
  stream: string;
  /** A stream of the AI SDK's protocol, whole. */
  chatStream: string;
  /** The first event of each type. */
  events: Record<string, { id: string; event: string; data: object }>;
  /** By code; `invalid_parameter` is an `invalid_request` that has no body. */
  problems: Record<string, { code: string; detail: string }>;
  /** By code, the details of those that are told as a sentence alone. */
  sentences: Record<string, string>;
}

interface AnswerExample {
  request?: unknown;
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

export const EXAMPLES: Examples = recorded;
