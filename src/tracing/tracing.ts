import { randomUUID } from 'node:crypto';
import { context, propagation, trace } from '@opentelemetry/api';
import { Logger } from '@nestjs/common';
import { within } from '../runtime/within.js';
import { type Config, Role } from '../config/env.js';

/** Longest that one export may take, its repetitions included. */
const EXPORT_TIMEOUT_MS = 5_000;
/** Longest that a process that stops waits for its last spans to be sent; they are lost then. */
const FLUSH_TIMEOUT_MS = 2_500;
/** Spans that wait to be sent; of more, the newest are dropped. */
const MAX_WAITING_SPANS = 2_048;
/** A collector that does not answer is logged at most this often. */
const WARNING_INTERVAL_MS = 60_000;

export const isTracing = (config: Pick<Config, 'OTEL_EXPORTER_OTLP_ENDPOINT'>): boolean =>
  config.OTEL_EXPORTER_OTLP_ENDPOINT !== undefined;

/**
 * Sends traces to the configured collector; without one nothing is made, nor loaded. A collector that hangs or is gone
 * costs a warning and its spans, never a request or a reply: the buffer, each export and the end are bounded.
 *
 * @returns sends what is left, and ends it; never throws
 */
export async function startTracing(config: Config): Promise<() => Promise<void>> {
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT === undefined) return async () => undefined;
  const [
    { AsyncLocalStorageContextManager },
    { setGlobalErrorHandler, W3CTraceContextPropagator },
    { OTLPTraceExporter },
    { resourceFromAttributes },
    { BatchSpanProcessor, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider },
  ] = await Promise.all([
    import('@opentelemetry/context-async-hooks'),
    import('@opentelemetry/core'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/sdk-trace'),
  ]);
  const warn = warnNowAndThen();
  setGlobalErrorHandler(warn);
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name':
        config.OTEL_SERVICE_NAME ?? (config.role === Role.All ? 'assistly' : `assistly-${config.role}`),
      'service.instance.id': randomUUID(),
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(config.OTEL_TRACES_SAMPLER_ARG) }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new OTLPTraceExporter({
          url: `${config.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/+$/, '')}/v1/traces`,
          headers: config.OTEL_EXPORTER_OTLP_HEADERS,
          timeoutMillis: EXPORT_TIMEOUT_MS,
        }),
        maxQueueSize: MAX_WAITING_SPANS,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
      }),
    ],
  });
  // bullmq-otel, as every instrumentation, knows the global ones only.
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());

  return async () => {
    await within(FLUSH_TIMEOUT_MS, provider.shutdown()).catch(warn);
    trace.disable();
    context.disable();
    propagation.disable();
  };
}

function warnNowAndThen(): (error: unknown) => void {
  const logger = new Logger('Tracing');
  let warnedAt = -Infinity;
  return (error) => {
    if (performance.now() - warnedAt < WARNING_INTERVAL_MS) return;
    warnedAt = performance.now();
    logger.warn(
      { event: 'traces.export_failed', err: error },
      'traces could not be sent to the collector and are dropped: nothing else depends on them',
    );
  };
}
