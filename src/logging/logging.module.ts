import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type DynamicModule, Module } from '@nestjs/common';
import { LoggerModule } from 'nestjs-pino';
import { holdsCredential } from '../runtime/credentials.js';
import { type Config, secretsOf } from '../config/env.js';
import { idsOf, refusedTokenOf } from './request-ids.js';
import { activeTraceId } from '../tracing/spans.js';
import { createErrorSerializer } from './error-serializer.js';

const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/**
 * Gives a request its id, the caller's where it sends a usable one, and echoes it. Before all other middleware, so
 * that also what never reaches a route (a preflight, the queue board, a path that cannot be decoded) has one.
 */
export function assignRequestId(request: IncomingMessage, response: ServerResponse, next: () => void): void {
  const given = request.headers['x-request-id'];
  const isUsable = typeof given === 'string' && REQUEST_ID.test(given) && !holdsCredential(given);
  request.id = isUsable ? given : randomUUID();
  response.setHeader('X-Request-Id', request.id);
  next();
}

/** Control characters, as JSON escapes those below U+0020, and others that change what a terminal shows. */
// oxlint-disable-next-line no-control-regex
const CONTROLS = /(?<!\\)((?:\\\\)*)\\(?:u00[01][\da-f]|[bf])|[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;

/** A line of JSON, in which no value can steer the terminal of who reads it, pretty or not. */
export function withoutControls(line: string): string {
  return line.replaceAll(CONTROLS, '$1\uFFFD');
}

/** Contexts of the lines that Nest logs of its own start: shown at level debug only. */
const NOISE = new Set(['InstanceLoader', 'RoutesResolver', 'RouterExplorer', 'NestFactory']);

/** The parameters whose values are logged; of any other, the token above all, only the name is. */
const SHOWN_PARAMETERS = new Set(['after', 'cursor', 'limit', 'order', 'wait']);

/** The path and query, without credentials and whatever else somebody put into the query. */
export function redactUrl(url: string): string {
  const [whole = '', query] = url.split(/\?(.*)/s, 2);
  const path = whole
    .split('/')
    .map((segment) => (holdsCredential(segment) ? '[redacted]' : segment))
    .join('/');
  if (query === undefined) return path;
  const parameters = [...new URLSearchParams(query)].map(
    ([name, value]) =>
      `${holdsCredential(name) ? '[redacted]' : encodeURIComponent(name)}=${SHOWN_PARAMETERS.has(name) && !holdsCredential(value) ? encodeURIComponent(value) : '[redacted]'}`,
  );
  return `${path}?${parameters.join('&')}`;
}

/**
 * Structured logs, pretty in a terminal. One line a request and one a reply attempt, each with the ids that lead
 * to the other; never a token, a key, a message's text or an e-mail address: headers and bodies are not logged.
 */
@Module({})
export class LoggingModule {
  static forRoot(config: Config): DynamicModule {
    return {
      module: LoggingModule,
      imports: [
        LoggerModule.forRoot({
          pinoHttp: {
            level: config.LOG_LEVEL,
            genReqId: (request) => request.id, // assignRequestId's
            quietReqLogger: true,
            customAttributeKeys: { reqId: 'requestId' },
            mixin: () => {
              const traceId = activeTraceId();
              return traceId === null ? {} : { traceId };
            },
            customSuccessObject: (_request, response, line: object) => ({
              event: 'request.completed',
              ...line,
              ...idsOf(response),
              refusedToken: refusedTokenOf(response),
            }),
            customErrorObject: (_request, response, _error, line: object) => ({
              event: 'request.failed',
              ...line,
              ...idsOf(response),
              refusedToken: refusedTokenOf(response),
            }),
            serializers: {
              req: (request: { method: string; url: string }) => ({
                method: request.method,
                url: redactUrl(request.url),
              }),
              res: (response: { statusCode: number }) => ({ status: response.statusCode }),
              err: createErrorSerializer(secretsOf(config)),
            },
            customLogLevel: (_request, response, error) =>
              error !== undefined || response.err !== undefined || response.statusCode >= 500
                ? 'error'
                : 'info',
            autoLogging: { ignore: (request) => /^\/(health\/|metrics$)/.test(request.url ?? '') },
            hooks: {
              streamWrite: withoutControls,
              logMethod(inputArgs, method) {
                const [first] = inputArgs as unknown[];
                const context =
                  typeof first === 'object' && first !== null && 'context' in first ? first.context : '';
                if (!NOISE.has(String(context)) || this.isLevelEnabled('debug'))
                  method.apply(this, inputArgs);
              },
            },
            ...(process.stdout.isTTY && {
              transport: { target: 'pino-pretty', options: { singleLine: true, ignore: 'pid,hostname' } },
            }),
          },
        }),
      ],
    };
  }
}
