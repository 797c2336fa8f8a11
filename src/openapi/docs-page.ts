import { createRequire } from 'node:module';
import type { INestApplication } from '@nestjs/common';
import { SwaggerModule } from '@nestjs/swagger';
import type { Express, NextFunction, Request, Response } from 'express';
import helmet from 'helmet';
import { type Asset, readAsset, readBuiltPage, sendAsset } from '../guest-page/built-page.js';
import { fillTemplate } from '../guest-page/html.js';
import { createOpenApiDocument } from './document.js';

/** The page comes from this process, all of it, and calls this process only. */
const pageHeaders = helmet({
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'", 'data:'], // Swagger UI's arrows
      connectSrc: ["'self'"],
      formAction: ["'none'"],
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
    },
  },
});
/** Of Swagger UI's megabyte and a half, which is compressed while somebody waits. */
const BROTLI_QUALITY = 5;

interface DocsPage {
  html: string;
  assets: ReadonlyMap<string, Asset>;
}

/** The page as `web/docs/` is built, and of Swagger UI's own package the script and the styles. */
async function readDocsPage(): Promise<DocsPage> {
  const { templates, assets } = await readBuiltPage('docs');
  // The package of it that Nest's brings along, wherever that lies.
  const { resolve } = createRequire(createRequire(import.meta.url).resolve('@nestjs/swagger'));
  const { version } = createRequire(import.meta.url)(resolve('swagger-ui-dist/package.json')) as {
    version: string;
  };
  const [swaggerScript, swaggerStyle] = [`swagger-ui-bundle-${version}.js`, `swagger-ui-${version}.css`];
  const licence = 'swagger-ui-bundle.js.LICENSE.txt'; // under the name that the script says
  const [script, style, licenceText] = await Promise.all(
    ['swagger-ui-bundle.js', 'swagger-ui.css', licence].map((name) =>
      readAsset(resolve(`swagger-ui-dist/${name}`), BROTLI_QUALITY),
    ),
  );
  return {
    html: fillTemplate(templates.get('docs')!, { swaggerScript, swaggerStyle }),
    assets: new Map([...assets, [swaggerScript, script!], [swaggerStyle, style!], [licence, licenceText!]]),
  };
}

/**
 * Serves `/openapi.json`, and at `/docs` the page that shows it. The document is made, and the page's files are read, at the
 * first request for them.
 */
export function setUpOpenApi(app: INestApplication): void {
  const routes: Express = app.getHttpAdapter().getInstance();
  let read: Promise<DocsPage> | undefined;
  const route =
    (serve: (page: DocsPage, request: Request, response: Response, next: NextFunction) => void) =>
    (request: Request, response: Response, next: NextFunction): void => {
      (read ??= readDocsPage()).then((page) => serve(page, request, response, next)).catch(next);
    };
  routes.use('/docs', pageHeaders);
  routes.get(
    '/docs',
    route(({ html }, request, response) => {
      if (request.path.endsWith('/')) return response.redirect('../docs'); // what the page refers to stands beside it
      response.setHeader('Cache-Control', 'no-cache');
      response.type('html').send(html);
    }),
  );
  routes.get(
    '/docs/assets/:name',
    route(({ assets }, request, response, next) => {
      const asset = assets.get(String(request.params['name']));
      if (asset) sendAsset(request, response, asset);
      else next();
    }),
  );
  SwaggerModule.setup('docs', app, () => createOpenApiDocument(app), {
    ui: false,
    raw: ['json'],
    jsonDocumentUrl: 'openapi.json',
  });
}
