import { Injectable } from '@nestjs/common';
import {
  collectDefaultMetrics,
  Counter,
  type CounterConfiguration,
  Gauge,
  type GaugeConfiguration,
  Histogram,
  type HistogramConfiguration,
  Registry,
} from 'prom-client';
import type { ScrapeSource } from './scrape-source.js';

/**
 * Where a process gathers what it measures, and what Prometheus reads. Each feature declares its own metrics here; all
 * of them, by name, are in test/unit/metrics.test.ts. Label sets are closed and small: models have names that owners
 * choose, so a label says only which of the configured ones it was; no id ever is a label.
 *
 * Counters and histograms are of this process, and are summed. What is read from the stores is the same in every
 * process (take the maximum), and absent while its store does not answer.
 *
 * The event loop's delay is among prom-client's own metrics (nodejs_eventloop_lag_…): the histogram of Node's
 * monitorEventLoopDelay, a sample each 10 ms, begun anew at each scrape. It could not be measured better here.
 *
 * One registry each: tests run several apps in one process.
 */
@Injectable()
export class Metrics {
  readonly registry = new Registry();

  private readonly sourceUp = this.gauge({
    name: 'assistly_source_up',
    help: 'Whether a store answered in time for what is read from it: rows (PostgreSQL) or queue (BullMQ’s).',
    labelNames: ['source'],
  });
  private readonly readers: (() => void)[] = [];
  private readonly sources: (() => Promise<void>)[] = [];

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  counter<Label extends string>(
    configuration: Omit<CounterConfiguration<Label>, 'registers'>,
  ): Counter<Label> {
    return new Counter({ ...configuration, registers: [this.registry] });
  }

  gauge<Label extends string>(configuration: Omit<GaugeConfiguration<Label>, 'registers'>): Gauge<Label> {
    return new Gauge({ ...configuration, registers: [this.registry] });
  }

  histogram<Label extends string>(
    configuration: Omit<HistogramConfiguration<Label>, 'registers'>,
  ): Histogram<Label> {
    return new Histogram({ ...configuration, registers: [this.registry] });
  }

  /** @param read sets gauges to what is so now; cheap, as it is called at each scrape */
  beforeScrape(read: () => void): void {
    this.readers.push(read);
  }

  /** @param source is asked when somebody scrapes */
  addSource<T>(name: 'rows' | 'queue', source: ScrapeSource<T>): void {
    this.sources.push(async () => this.sourceUp.set({ source: name }, (await source.refresh()) ? 1 : 0));
  }

  /** The text that Prometheus reads. */
  async scrape(): Promise<string> {
    for (const read of this.readers) read();
    await Promise.all(this.sources.map((read) => read()));
    return this.registry.metrics();
  }
}
