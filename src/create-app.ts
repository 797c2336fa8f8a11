import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Job } from 'bullmq';
import helmet from 'helmet';
import { Logger } from 'nestjs-pino';
import { AppModule } from './app.module.js';
import { JsonBodyInterceptor } from './http/json-body.interceptor.js';
import { operatorCredentials } from './auth/operator.js';
import { ProblemFilter } from './http/problem.filter.js';
import { Shutdown, ShutdownPhase } from './runtime/shutdown.js';
import { createValidationPipe } from './http/validation.pipe.js';
import { type Config, parseTrustProxy, Role } from './config/env.js';
import { assignRequestId } from './logging/logging.module.js';
import { ReplyDispatching } from './conversations/reply-store/dispatching.js';
import { readReplyJob } from './conversations/reply-jobs.js';
import { ReplyQueue } from './conversations/reply-queue.js';
import { setUpOpenApi } from './openapi/docs-page.js';
import { BULL_BOARD_PATH, createQueueBoard } from './operations/queue-board.js';
import type { Timings } from './runtime/timings.js';
import { traceRequest } from './http/request-span.js';
import { isTracing, startTracing } from './tracing/tracing.js';

/** Headers that a page from another origin may read. */
const EXPOSED_HEADERS = ['X-Request-Id', 'X-Event-Cursor', 'Location', 'Retry-After', 'Idempotency-Replayed'];

/** How often a process that stops looks for connections that have become idle. */
const IDLE_CHECK_INTERVAL_MS = 100;

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
 *
 * @param timings those that differ from the defaults, for tests
 */
export async function createApp(
  config: Config,
  timings: Partial<Timings> = {},
): Promise<NestExpressApplication> {
  const stopTracing = await startTracing(config); // before anything that might begin a span
  const app = await NestFactory.create<NestExpressApplication>(AppModule.forRole(config, timings), {
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
    const dispatching = app.get(ReplyDispatching, { strict: false });
    const board = createQueueBoard({
      credentials,
      onQueue: (listener) => queue.onOpen(listener),
      beforeRetry: async (job: Job<unknown>) => {
        const known = readReplyJob(job);
        if (known) await dispatching.endPause(known.data.replyId);
      },
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
