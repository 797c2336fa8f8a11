import { Injectable } from '@nestjs/common';
import type { NextFunction, Request, Response } from 'express';
import type { Counter, Histogram } from 'prom-client';
import { Metrics } from '../metrics/metrics.js';

/** From what a short answer takes, in seconds, to the longest poll. */
const BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2, 10, 30];

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** Who watches the process asks again and again, which says nothing about it. */
const OF_WATCHERS = /^\/(?:health\/|metrics$)/;

/** Label `route` of what no route of ours answered: an unknown path, a preflight, the queue board. */
const NO_ROUTE = 'none';

/** How requests fare, by the template of their route, so that no id becomes a label. */
@Injectable()
export class RequestMetrics {
  private readonly requests: Counter<'method' | 'route' | 'status'>;
  private readonly duration: Histogram<'method' | 'route'>;

  constructor(metrics: Metrics) {
    this.requests = metrics.counter({
      name: 'assistly_http_requests_total',
      help: 'Requests that were answered, or whose client went away, by method, template of the route, and class of the status: 2xx to 5xx, or aborted. Health checks and scrapes are not in it.',
      labelNames: ['method', 'route', 'status'],
    });
    this.duration = metrics.histogram({
      name: 'assistly_http_request_duration_seconds',
      help: 'From the request to the end of its answer, by method and template of the route. Event streams, which last for minutes, are not in it; long polls are.',
      labelNames: ['method', 'route'],
      buckets: BUCKETS,
    });
  }

  /** Middleware: counts a request at its end. */
  readonly measure = (request: Request, response: Response, next: NextFunction): void => {
    if (OF_WATCHERS.test(request.path)) {
      next();
      return;
    }
    const beganAt = performance.now();
    response.once('close', () => {
      const path: unknown = (request.route as { path?: unknown } | undefined)?.path;
      const route = typeof path === 'string' && !path.includes('*') ? path : NO_ROUTE;
      const method = METHODS.has(request.method) ? request.method : 'other';
      const status = response.writableFinished ? `${Math.floor(response.statusCode / 100)}xx` : 'aborted';
      const isStream = String(response.getHeader('Content-Type') ?? '').startsWith('text/event-stream');
      this.requests.inc({ method, route, status: isStream && response.headersSent ? '2xx' : status });
      if (!isStream) this.duration.observe({ method, route }, (performance.now() - beganAt) / 1000);
    });
    next();
  };
}
