import { type Context, ROOT_CONTEXT } from '@opentelemetry/api';
import { type Span, SpanKind, type Telemetry } from 'bullmq';
import { BullMQOtel, BullMQOTelSpan } from 'bullmq-otel';
import { errorType, markFailed } from './spans.js';

/** BullMQ looks for jobs, for stalled ones and after its locks all day long, each time with a span. */
const SILENT: Span<Context> = {
  setSpanOnContext: (current) => current,
  setAttribute: () => undefined,
  setAttributes: () => undefined,
  addEvent: () => undefined,
  recordException: () => undefined,
  end: () => undefined,
};

/** Without the messages of errors, which may quote the store or a peer. */
class JobSpan extends BullMQOTelSpan {
  override recordException(exception: unknown): void {
    markFailed(this.span, errorType(exception));
  }
}

/**
 * BullMQ's own telemetry, of which two spans are kept: a job is added, and a job is worked on. The first one's ids
 * travel in the job's options, and make the second one its child, in whichever process that is.
 */
export function createQueueTelemetry(): Telemetry<Context> {
  const { tracer, contextManager } = new BullMQOtel({ tracerName: 'bullmq' });
  return {
    tracer: {
      startSpan: (name, options, parent) => {
        if (options?.kind !== SpanKind.PRODUCER && options?.kind !== SpanKind.CONSUMER) return SILENT;
        const { span } = tracer.startSpan(name, options, parent) as BullMQOTelSpan;
        return new JobSpan(span);
      },
    },
    contextManager: {
      with: (active, work) => contextManager.with(active, work),
      active: () => contextManager.active(),
      root: () => ROOT_CONTEXT,
      getMetadata: (active) => contextManager.getMetadata(active),
      fromMetadata: (active, metadata) => contextManager.fromMetadata(active, metadata),
    },
  };
}
