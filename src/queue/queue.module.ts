import { BullModule } from '@nestjs/bullmq';
import { type DynamicModule, Module } from '@nestjs/common';
import { setDefaultBackendFactory } from 'bullmq';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { DatabaseModule } from '../database/database.module.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { QueueParts } from './gated-queue.js';
import { createQueueBackend, QUEUE_BACKEND, type QueueBackend } from './queue-backend.js';
import { QueueGate } from './queue-gate.js';
import { RedisCheck } from './redis-check.js';

/** BullMQ on either store. Queues and workers are made by those who use them, once the gate is open. */
@Module({
  imports: [RuntimeModule, DatabaseModule],
  providers: [
    RedisCheck,
    { provide: QUEUE_BACKEND, inject: [CONFIG], useFactory: (config: Config) => createQueueBackend(config) },
    QueueGate,
    QueueParts,
  ],
  exports: [QUEUE_BACKEND, QueueGate, QueueParts],
})
export class QueueModule {
  /** What @nestjs/bullmq needs to make the workers of `@Processor` classes, when told to. */
  static forWorkers(): DynamicModule[] {
    return [
      BullModule.forRootAsync({
        imports: [QueueModule],
        inject: [QUEUE_BACKEND],
        useFactory: (backend: QueueBackend) => {
          setDefaultBackendFactory(backend.factory); // it takes no factory of its own yet
          return {
            connection: backend.workerConnection,
            prefix: backend.prefix,
            telemetry: backend.telemetry,
          };
        },
        extraOptions: { manualRegistration: true }, // by the worker's service, once the gate is open
      }),
      BullModule.registerQueue(), // registers nothing, but brings the registrar
    ];
  }
}
