import { Module } from '@nestjs/common';
import { Metrics } from './metrics.js';

/** Whoever has something to measure takes {@link Metrics}. */
@Module({
  providers: [Metrics],
  exports: [Metrics],
})
export class MetricsModule {}
