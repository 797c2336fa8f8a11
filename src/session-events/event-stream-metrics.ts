import { Injectable } from '@nestjs/common';
import type { Gauge, Histogram } from 'prom-client';
import { Metrics } from '../metrics/metrics.js';

const LAG_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15];

/** The event streams that clients have open. */
@Injectable()
export class EventStreamMetrics {
  private readonly open: Gauge;
  private readonly lag: Histogram;

  constructor(metrics: Metrics) {
    this.open = metrics.gauge({
      name: 'assistly_event_streams_open',
      help: 'Event streams that clients have open.',
    });
    this.lag = metrics.histogram({
      name: 'assistly_event_lag_seconds',
      help: 'From the append of an event to when it was handed to a client’s connection. The append is timed by the store’s clock and compared with it, so processes’ clocks do not matter; exact to the store’s round trip. Without what a client caught up on.',
      buckets: LAG_BUCKETS,
    });
  }

  opened(): void {
    this.open.inc();
  }

  closed(): void {
    this.open.dec();
  }

  /** @param appendedAt in this process's `performance.now()`; the comparison of the clocks is exact to some milliseconds only */
  sent(appendedAt: number): void {
    this.lag.observe(Math.max(0, performance.now() - appendedAt) / 1_000);
  }
}
