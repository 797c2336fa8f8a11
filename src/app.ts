import 'reflect-metadata';
import { type DynamicModule, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Job } from 'bullmq';
import helmet from 'helmet';
import { Logger } from 'nestjs-pino';
import { CommonModule } from './common/common.module.js';
import { JsonBodyInterceptor } from './common/json-body.interceptor.js';
import { operatorCredentials } from './common/operator.js';
import { ProblemFilter } from './common/problem.filter.js';
import { Shutdown, ShutdownPhase } from './common/shutdown.js';
import { createValidationPipe } from './common/validation.pipe.js';
import { ConfigModule } from './config/config.module.js';
import { type Config, parseTrustProxy, Role } from './config/env.js';
import { DatabaseModule } from './database/database.module.js';
import { EventsModule } from './events/events.module.js';
import { HealthModule } from './health/health.module.js';
import { assignRequestId, LoggingModule } from './logging/logging.module.js';
import { ReplyLifecycle } from './messages/reply-lifecycle.js';
import { type GenerateJob, ReplyQueue } from './messages/reply-queue.js';
import { MetricsModule } from './metrics/metrics.module.js';
import { setUpOpenApi } from './openapi/docs-page.js';
import { BULL_BOARD_PATH, createQueueBoard } from './queue/bull-board.js';
import { QueueModule } from './queue/queue.module.js';
import { traceRequest } from './tracing/request-span.js';
import { isTracing, startTracing } from './tracing/tracing.js';

/** Headers that a page from another origin may read. */
const EXPOSED_HEADERS = ['X-Request-Id', 'X-Event-Cursor', 'Location', 'Retry-After', 'Idempotency-Replayed'];

/** How often a process that stops looks for connections that have become idle. */
const IDLE_CHECK_INTERVAL_MS = 100;

@Module({})
class AppModule {
  /** Loads the code of the role alone: an api has no use for the tokenizer's table, nor a worker for the routes. */
  static async forRole(config: Config): Promise<DynamicModule> {
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config),
        LoggingModule.forRoot(config),
        CommonModule,
        DatabaseModule,
        EventsModule,
        QueueModule,
        HealthModule,
        MetricsModule,
        ...(config.role === Role.Worker ? [] : [(await import('./api.module.js')).ApiModule]),
        ...(config.role === Role.Api ? [] : [(await import('./worker.module.js')).WorkerModule]),
      ],
    };
  }
}

/**
 * Node closes idle connections once, when its server begins to close. Those whose last answer, or stream, ends
 * after that would keep the process for the seconds of a keep-alive.
 */
function closeIdleConnectionsWhenStopping(app: NestExpressApplication): void {
  const server = app.getHttpServer();
  app.get(Shutdown, { strict: false }).register(ShutdownPhase.EndStreams, () => {
    const timer = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_INTERVAL_MS).unref();
    server.once('close', () => clearInterval(timer));
  });
}

/**
 * A process of a role, wired and not yet listening. Its database has a URL by now; that the database answers is
 * not required: it becomes ready when it does.
 */
export async function createApp(config: Config): Promise<NestExpressApplication> {
  const stopTracing = await startTracing(config); // before anything that might begin a span
  const app = await NestFactory.create<NestExpressApplication>(await AppModule.forRole(config), {
    bodyParser: false, // the interceptor reads bodies, after the guard
    bufferLogs: true,
    abortOnError: false,
  });
  app.useLogger(app.get(Logger));
  app.disable('x-powered-by');
  app.set('etag', false); // hashing every answer helps nobody who polls for news
  app.set('query parser', 'simple');
  app.use(assignRequestId);
  app.useGlobalFilters(new ProblemFilter());
  closeIdleConnectionsWhenStopping(app);
  app.get(Shutdown, { strict: false }).register(ShutdownPhase.Disconnect, stopTracing);
  if (config.role === Role.Worker) return app;

  app.set('trust proxy', parseTrustProxy(config.TRUST_PROXY));
  app.useGlobalInterceptors(new JsonBodyInterceptor());
  app.useGlobalPipes(createValidationPipe());
  app.use(
    '/v1',
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      },
      crossOriginResourcePolicy: { policy: 'cross-origin' }, // who may read it is for CORS to say
    }),
  );
  const credentials = operatorCredentials(config);
  if (credentials) {
    const queue = app.get(ReplyQueue, { strict: false });
    const lifecycle = app.get(ReplyLifecycle, { strict: false });
    const board = createQueueBoard({
      credentials,
      onQueue: (listener) => queue.onOpen(listener),
      beforeRing: async (job: Job<GenerateJob>) => lifecycle.endPause(job.data.replyId),
    });
    app.use(BULL_BOARD_PATH, ...board); // before CORS: no page of another origin has business there
  }
  if (config.CORS_ORIGINS.length > 0) {
    app.enableCors({
      origin: config.CORS_ORIGINS.includes('*') ? '*' : config.CORS_ORIGINS,
      exposedHeaders: EXPOSED_HEADERS,
      maxAge: 600,
    });
  }
  if (isTracing(config)) app.use('/v1', traceRequest);
  setUpOpenApi(app);
  return app;
}
