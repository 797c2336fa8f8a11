import { type INestApplication, NotFoundException } from '@nestjs/common';
import { SwaggerModule } from '@nestjs/swagger';
import type { RequestHandler } from 'express';
import helmet from 'helmet';
import { createOpenApiDocument } from './document.js';

/** Swagger UI comes from this process, all of it, and calls this process only. */
const pageHeaders = helmet({
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'", "'unsafe-inline'"], // Swagger UI sets styles from its script
      imgSrc: ["'self'", 'data:'],
      connectSrc: ["'self'"],
      formAction: ["'none'"],
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
    },
  },
});
/** What explains the page's scripts is nothing that the page needs. */
const noSourceMaps: RequestHandler = ({ path }, _response, next) => {
  if (path.endsWith('.map')) next(new NotFoundException());
  else next();
};

/** A request that Swagger UI is about to send. */
interface PageRequest {
  url: string;
  method: string;
  userFetch?: typeof fetch;
}

/**
 * Runs in the page, which gets its text: it may use nothing from here. Swagger UI shows an answer when it has ended,
 * which a stream of events does not for minutes. So the page leaves it when a reply has ended, or after ten seconds,
 * and shows what came until then.
 */
function leaveStreamsSoon(request: PageRequest): PageRequest {
  if (request.method !== 'GET' || !/\/events(\?|$)/.test(request.url)) return request;
  request.userFetch = async (url, init) => {
    const leaving = new AbortController();
    const timer = setTimeout(() => leaving.abort(), 10_000);
    const response = await fetch(url, { ...init, signal: leaving.signal });
    if (!response.ok || !response.body) return response;
    const decoder = new TextDecoder();
    let text = '';
    try {
      const reader = response.body.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += decoder.decode(part.value, { stream: true });
        if (/^event: (reply\.(completed|cancelled|failed)|session\.deleted)\n.*\n\n/m.test(text)) break;
      }
    } catch {
      // The ten seconds are over.
    }
    clearTimeout(timer);
    leaving.abort();
    return new Response(text, { status: response.status, headers: response.headers });
  };
  return request;
}

/** Serves `/openapi.json` and `/docs`. The document is made at the first request for it. */
export function setUpOpenApi(app: INestApplication): void {
  app.use('/docs', pageHeaders, noSourceMaps);
  SwaggerModule.setup('docs', app, () => createOpenApiDocument(app), {
    raw: ['json'],
    jsonDocumentUrl: 'openapi.json',
    customSiteTitle: 'Assistly API',
    swaggerOptions: {
      validatorUrl: null, // or the page would ask a server of its maker
      tryItOutEnabled: true,
      requestInterceptor: leaveStreamsSoon,
    },
  });
}
