import { Module } from '@nestjs/common';
import { operatorCredentials } from '../auth/operator.js';
import { CONFIG } from '../config/config.module.js';
import { HealthController, OPERATOR } from './health.controller.js';
import { MetricsController } from './metrics.controller.js';

/** What operators, and the machines that watch for them, look at, in both roles. */
@Module({
  controllers: [HealthController, MetricsController],
  providers: [{ provide: OPERATOR, inject: [CONFIG], useFactory: operatorCredentials }],
})
export class OperationsModule {}
