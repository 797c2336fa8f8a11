import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { ExpressAdapter } from '@nestjs/platform-express';
import { errorCode } from '../runtime/error-code.js';
import { AppError, type ProblemCode } from '../runtime/app-error.js';
import { problemOf } from './problem.filter.js';

/** Longest that a request may take to arrive, and its headers alone, in milliseconds. */
const REQUEST_TIMEOUT_MS = 15_000;
/** How often connections are looked at for that: so much later one is cut at the latest. */
const CHECK_INTERVAL_MS = 2_000;
/** Longer than load balancers keep an idle connection (60 seconds is usual), so that it is theirs to close. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;
/** Four times the event streams that a process is known to serve; each connection takes a file and some memory. */
const MAX_CONNECTIONS = 20_000;

/** How long a connection is kept for its client to read why it ends, in milliseconds: one that does not close it would hold it. */
const LINGER_MS = 1_000;

/** What Node refuses by itself, before there is a request for the application. */
const REFUSALS: Record<string, { code: ProblemCode; detail: string }> = {
  HPE_HEADER_OVERFLOW: { code: 'headers_too_large', detail: 'Request line and headers may hold 16 KiB.' },
  ERR_HTTP_REQUEST_TIMEOUT: {
    code: 'request_timeout',
    detail: `A request has to arrive within ${REQUEST_TIMEOUT_MS / 1000} seconds.`,
  },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: { code: 'payload_too_large', detail: 'The chunk extensions are too long.' },
};
const NO_HTTP = { code: 'malformed_request', detail: 'What arrived is not an HTTP request.' } as const;

/** Nest's adapter for Express, whose server bounds how long and how much it waits for, and refuses as the API does. */
export class HttpAdapter extends ExpressAdapter {
  override initHttpServer(): void {
    const server = createServer(
      {
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        connectionsCheckingInterval: CHECK_INTERVAL_MS,
      },
      this.getInstance() as (request: IncomingMessage, response: ServerResponse) => void,
    );
    server.maxConnections = MAX_CONNECTIONS;
    server.on('clientError', refuseConnection);
    server.on('checkExpectation', refuseExpectation);
    this.httpServer = server satisfies Server;
  }
}

/** Answers what is no request; there is only the connection for that, and it ends. */
function refuseConnection(error: Error, socket: Duplex): void {
  if (errorCode(error) === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const { code, detail } = REFUSALS[errorCode(error) ?? ''] ?? NO_HTTP;
  const requestId = randomUUID();
  const refusal = new AppError(code, detail);
  const body = JSON.stringify(problemOf(refusal, requestId));
  socket.end(
    [
      `HTTP/1.1 ${refusal.status} ${refusal.title}`,
      'Content-Type: application/problem+json; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      `X-Request-Id: ${requestId}`,
      'X-Content-Type-Options: nosniff',
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
  );
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

/** Any `Expect` but `100-continue`, which Node meets by itself. */
function refuseExpectation(_request: IncomingMessage, response: ServerResponse): void {
  const requestId = randomUUID();
  const refusal = new AppError('expectation_failed', 'Nothing but 100-continue may be expected.');
  response
    .writeHead(refusal.status, {
      'Content-Type': 'application/problem+json; charset=utf-8',
      'X-Request-Id': requestId,
      'X-Content-Type-Options': 'nosniff',
      Connection: 'close',
    })
    .end(JSON.stringify(problemOf(refusal, requestId)));
}
