import { type DynamicModule, Module } from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, DiscoveryModule } from '@nestjs/core';
import { AuthGuard } from '../auth/auth.guard.js';
import { AuthModule } from '../auth/auth.module.js';
import { Role } from '../config/env.js';
import { DatabaseModule } from '../database/database.module.js';
import { LimitsModule } from '../limits/limits.module.js';
import { MetricsModule } from '../metrics/metrics.module.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { CrossOrigin } from './cross-origin.js';
import { IdleConnections } from './idle-connections.js';
import { JsonBodyInterceptor } from './json-body.interceptor.js';
import { OriginGuard } from './origin.guard.js';
import { OwnerWritesGuard } from './owner-writes.guard.js';
import { ProblemFilter } from './problem.filter.js';
import { QueryInterceptor } from './query.interceptor.js';
import { RequestMetrics } from './request-metrics.js';
import { createValidationPipe } from './validation.pipe.js';

/**
 * What every request passes, in the order in which Nest asks them: the guards, the interceptors that check the query and
 * read the body, the pipe that checks it; whatever goes wrong in any of them becomes a problem document by the filter.
 */
@Module({})
export class HttpModule {
  static forRole(role: Role): DynamicModule {
    const providers = [{ provide: APP_FILTER, useClass: ProblemFilter }, IdleConnections, RequestMetrics];
    // A worker has the operations' routes only, which are public and take no body, and needs no owners' keys.
    if (role === Role.Worker)
      return { module: HttpModule, imports: [RuntimeModule, MetricsModule], providers };
    return {
      module: HttpModule,
      imports: [RuntimeModule, MetricsModule, AuthModule, DatabaseModule, DiscoveryModule, LimitsModule],
      providers: [
        ...providers,
        { provide: APP_GUARD, useExisting: AuthGuard },
        { provide: APP_GUARD, useClass: OriginGuard },
        { provide: APP_GUARD, useClass: OwnerWritesGuard },
        CrossOrigin,
        { provide: APP_INTERCEPTOR, useClass: QueryInterceptor },
        { provide: APP_INTERCEPTOR, useClass: JsonBodyInterceptor },
        { provide: APP_PIPE, useFactory: createValidationPipe },
      ],
    };
  }
}
