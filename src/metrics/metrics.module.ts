import { Global, Module } from '@nestjs/common';
import { MetricsController } from '../operations/metrics.controller.js';
import { Metrics } from './metrics.js';
import { ReplyMetrics } from '../conversations/reply-metrics.js';

/** Whoever has something to measure takes {@link Metrics}; how it is read is the controller's. */
@Global()
@Module({
  controllers: [MetricsController],
  providers: [Metrics, ReplyMetrics],
  exports: [Metrics, ReplyMetrics],
})
export class MetricsModule {}
