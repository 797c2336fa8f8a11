import type { APIError } from 'openai';

/** What a request carries that a server may do without. */
export type OptionalPart = 'stream_options' | 'system' | 'stream';

/** How servers name what they refuse: in `param`, or in the words of the message. */
const REFUSALS: Readonly<Record<OptionalPart, RegExp>> = {
  // OpenAI and vLLM name the parameter with 400; servers with strict schemas, as Mistral's, with 422.
  stream_options: /stream_options|include_usage/i,
  // Gemma's template: "System role not supported"; Google: "Developer instruction is not enabled"; others name the
  // place, such as `messages.0.role` or `["body","messages",0,"role"]`.
  system:
    /\b(system|developer)\b.{0,40}\b(role|message|prompt|instruction)|\b(role|message|prompt|instruction)s?\b.{0,40}\b(system|developer)\b|messages?["'\s.,[\]]+0["'\s.,[\]]+role/i,
  stream: /\bstream(ing)?\b(?!_)/i,
};

const STATUSES: readonly (number | undefined)[] = [400, 422, 501];
/** Models are remembered up to so many: owners name them, so their number is not ours to trust. */
const MAX_MODELS = 200;

const ALL: readonly OptionalPart[] = ['stream_options', 'system', 'stream'];

/** Remembers, a model, what its server refuses. */
export class OptionalParts {
  private readonly leftOut = new Map<string, ReadonlySet<OptionalPart>>();

  /** What a request for this model carries. */
  of(model: string): ReadonlySet<OptionalPart> {
    const left = this.leftOut.get(model);
    return new Set(ALL.filter((part) => !left?.has(part)));
  }

  /** The part that an error refuses, of those that were sent; null: it is about something else. */
  refusedBy(error: APIError, sent: ReadonlySet<OptionalPart>): OptionalPart | null {
    if (!STATUSES.includes(error.status)) return null;
    const words = `${error.param} ${error.message}`;
    return ALL.find((part) => sent.has(part) && REFUSALS[part].test(words)) ?? null;
  }

  leaveOut(model: string, part: OptionalPart): void {
    const [oldest] = this.leftOut.keys();
    if (!this.leftOut.has(model) && this.leftOut.size >= MAX_MODELS && oldest !== undefined) {
      this.leftOut.delete(oldest);
    }
    this.leftOut.set(model, new Set([...(this.leftOut.get(model) ?? []), part]));
  }
}
