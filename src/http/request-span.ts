import { context, propagation, ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api';
import type { NextFunction, Request, Response } from 'express';
import { idsOf } from '../logging/request-ids.js';
import { markFailed, SpanAttribute, tracer } from '../tracing/spans.js';

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

const ends = new WeakMap<Response, () => void>();

/**
 * A span for each request, within the caller's trace where it names one in `traceparent`. Of what else a caller may
 * send along (`tracestate`, `baggage`) nothing is taken: it would be kept with the job, and sent to the collector.
 */
export function traceRequest(request: Request, response: Response, next: NextFunction): void {
  const { traceparent } = request.headers;
  const parent = propagation.extract(ROOT_CONTEXT, { traceparent });
  const method = METHODS.has(request.method) ? request.method : '_OTHER';
  const span = tracer().startSpan(
    method,
    {
      kind: SpanKind.SERVER,
      attributes: {
        'http.request.method': method,
        'url.scheme': request.protocol,
        [SpanAttribute.RequestId]: String(request.id),
      },
    },
    parent,
  );
  const active = trace.setSpan(parent, span);

  const end = (): void => {
    const route: unknown = (request.route as { path?: unknown } | undefined)?.path;
    // Of a path that is no route's, which the log's own middleware matches with a "*", nothing is kept.
    if (typeof route === 'string' && !route.includes('*')) {
      span.updateName(`${method} ${route}`);
      span.setAttributes({ 'http.route': route, 'url.path': request.path });
    }
    const { sessionId, replyId } = idsOf(response);
    if (sessionId !== undefined) span.setAttribute(SpanAttribute.SessionId, sessionId);
    if (replyId !== undefined) span.setAttribute(SpanAttribute.ReplyId, replyId);
    if (response.headersSent) span.setAttribute('http.response.status_code', response.statusCode);
    if (response.statusCode >= 500) markFailed(span, String(response.statusCode));
    span.end();
  };
  ends.set(response, end);
  response.once('close', () => endRequestSpan(response));

  context.bind(active, response); // what listens to its end, as the request's log line, belongs to the trace
  context.with(active, next);
}

/** Ends a request's span before its response does: a stream lasts for minutes, which says nothing about the request. */
export function endRequestSpan(response: Response): void {
  ends.get(response)?.();
  ends.delete(response);
}
