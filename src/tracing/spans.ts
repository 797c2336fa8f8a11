import {
  context,
  ROOT_CONTEXT,
  type Span,
  type SpanOptions,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api';
import { errorCode } from '../runtime/error-code.js';

/**
 * Spans are made by hand, at the few places that matter, with OpenTelemetry's API alone: without a started SDK (see
 * tracing.ts) each of these calls does nothing. What a span holds is ids, names, numbers and codes: never a text that
 * people or a model wrote, and so never an error's message, which may quote one.
 */

/** The ids that lead from a trace to the log lines and rows, and back. */
export const SpanAttribute = {
  ReplyId: 'assistly.reply.id',
  SessionId: 'assistly.session.id',
  RequestId: 'assistly.request.id',
  Attempt: 'assistly.reply.attempt',
  Outcome: 'assistly.reply.outcome',
  ErrorType: 'error.type',
} as const;

export const tracer = (): Tracer => trace.getTracer('assistly');

/** Does work within a span of its own, which ends with it. */
export function inSpan<T>(name: string, options: SpanOptions, work: () => Promise<T>): Promise<T> {
  return tracer().startActiveSpan(name, options, async (span) => {
    try {
      return await work();
    } catch (error) {
      markFailed(span, errorType(error));
      throw error;
    } finally {
      span.end();
    }
  });
}

/**
 * Does work that another request caused than the one whose trace this is: in a trace of its own, with a link to the
 * span from which it was set off, where there is one.
 */
export function inOwnTrace<T>(name: string, options: SpanOptions, work: () => Promise<T>): Promise<T> {
  const origin = trace.getActiveSpan()?.spanContext();
  const links = origin ? [{ context: origin }] : [];
  return context.with(ROOT_CONTEXT, () => inSpan(name, { ...options, links }, work));
}

/** @param type a code of ours or of the system, by which failures can be counted */
export function markFailed(span: Span | undefined, type: string): void {
  span?.setAttribute(SpanAttribute.ErrorType, type);
  span?.setStatus({ code: SpanStatusCode.ERROR });
}

/** Of the attempt whose span the code runs in. @param failure why it failed, if it did */
export function markAttempt(outcome: string, failure: string | undefined): void {
  const span = trace.getActiveSpan();
  span?.setAttribute(SpanAttribute.Outcome, outcome);
  if (failure !== undefined) markFailed(span, failure);
}

/** What an error is called; its message is for the log, which cleans it. */
export function errorType(error: unknown): string {
  return errorCode(error) ?? (error instanceof Error ? error.name : typeof error);
}

/** Of the span that the code runs in; null where there is none, as always without tracing. */
export function activeTraceId(): string | null {
  return trace.getActiveSpan()?.spanContext().traceId ?? null;
}
