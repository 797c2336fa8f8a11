import type { INestApplication } from '@nestjs/common';
import { SwaggerModule } from '@nestjs/swagger';
import helmet from 'helmet';
import { createOpenApiDocument } from './document.js';

/** Swagger UI comes from this process, all of it, and speaks to this process only. */
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

/** Serves `/openapi.json` and `/docs`. The document is made at the first request for it. */
export function setUpOpenApi(app: INestApplication): void {
  app.use('/docs', pageHeaders);
  app.use('/openapi.json', helmet({ crossOriginResourcePolicy: { policy: 'cross-origin' } }));
  SwaggerModule.setup('docs', app, () => createOpenApiDocument(app), {
    raw: ['json'],
    jsonDocumentUrl: 'openapi.json',
    customSiteTitle: 'Assistly API',
    swaggerOptions: {
      validatorUrl: null, // or the page would ask a server of its maker
      tryItOutEnabled: true,
    },
  });
}
