import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import helmet from 'helmet';
import { Logger } from 'nestjs-pino';
import { AppModule } from './app.module.js';
import { Shutdown, ShutdownPhase } from './runtime/shutdown.js';
import { type Config, parseTrustProxy, Role } from './config/env.js';
import { assignRequestId } from './logging/logging.module.js';
import { GuestPage } from './guest-page/guest-page.js';
import { setUpOpenApi } from './openapi/docs-page.js';
import { QueueBoard } from './operations/queue-board.js';
import type { Timings } from './runtime/timings.js';
import { tellAllowance } from './http/allowance-headers.js';
import { CrossOrigin } from './http/cross-origin.js';
import { HttpAdapter } from './http/http-adapter.js';
import { RequestMetrics } from './http/request-metrics.js';
import { traceRequest } from './http/request-span.js';
import { endWithUnreadBody } from './http/unread-body.js';
import { serveWidgetScript } from './widget/widget-script.js';
import { isTracing, startTracing } from './tracing/tracing.js';

/** Of whatever is served: no page may be made of it. The pages that there are set their own over these. */
const securityHeaders = helmet({
  contentSecurityPolicy: {
    useDefaults: false,
    directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
  },
  crossOriginResourcePolicy: { policy: 'cross-origin' }, // CORS decides who may read it
});

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
  const app = await NestFactory.create<NestExpressApplication>(
    await AppModule.forRole(config, timings),
    new HttpAdapter(),
    {
      bodyParser: false, // the interceptor reads bodies, after the guard
      bufferLogs: true,
      abortOnError: false,
    },
  );
  app.useLogger(app.get(Logger));
  app.disable('x-powered-by');
  app.set('etag', false); // clients poll for changes, so the hash of an answer would rarely save one
  app.set('query parser', 'simple');
  app.use(assignRequestId);
  app.use(endWithUnreadBody);
  app.use(securityHeaders);
  app.use(app.get(RequestMetrics, { strict: false }).measure);
  app.get(Shutdown, { strict: false }).register(ShutdownPhase.Disconnect, stopTracing);
  if (config.role === Role.Worker) return app;

  app.set('trust proxy', parseTrustProxy(config.TRUST_PROXY));
  // Before CORS: no page of another origin has business there. It answers by itself, so the log has no line of it.
  app.get(QueueBoard, { strict: false }).mountOn(app);
  app.get(GuestPage, { strict: false }).mountOn(app);
  serveWidgetScript(app); // to pages of any origin, by itself as well
  app.enableCors(app.get(CrossOrigin, { strict: false }).optionsOf);
  if (config.LIMITS_ENABLED) app.use('/v1', tellAllowance);
  if (isTracing(config)) app.use('/v1', traceRequest);
  if (!config.isProduction || config.DOCS_IN_PRODUCTION) setUpOpenApi(app);
  return app;
}
