import { Module } from '@nestjs/common';
import { OPERATOR, operatorCredentials } from '../auth/operator.js';
import { CONFIG } from '../config/config.module.js';
import { DatabaseModule } from '../database/database.module.js';
import { MetricsModule } from '../metrics/metrics.module.js';
import { QueueModule } from '../queue/queue.module.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { BuildInfo } from './build-info.js';
import { ConnectionBudget } from './connection-budget.js';
import { HealthController } from './health.controller.js';
import { OperatorDoor } from './operator-door.js';
import { MetricsController } from './metrics.controller.js';

/** What operators, and the machines that watch for them, look at, in both roles. */
@Module({
  imports: [RuntimeModule, MetricsModule, DatabaseModule, QueueModule],
  controllers: [HealthController, MetricsController],
  providers: [
    { provide: OPERATOR, inject: [CONFIG], useFactory: operatorCredentials },
    OperatorDoor,
    ConnectionBudget,
    BuildInfo,
  ],
  exports: [OPERATOR, OperatorDoor],
})
export class OperationsModule {}
