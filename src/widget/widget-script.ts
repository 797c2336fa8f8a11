import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Request, Response } from 'express';

/** What the build makes of web/widget/. */
const SCRIPT = new URL('../../web/widget.js', import.meta.url);

/**
 * Serves `/widget.js`, which pages of any origin load: with their own policies in mind, it may be used wherever it is
 * embedded, and read for its integrity. A page that has it asks again after five minutes, and mostly gets 304.
 */
export function serveWidgetScript(app: Pick<NestExpressApplication, 'use'>): void {
  const plain = readFileSync(SCRIPT);
  const zipped = gzipSync(plain, { level: 9 });
  const tag = createHash('sha256').update(plain).digest('base64url').slice(0, 22);
  app.use('/widget.js', (request: Request, response: Response, next: () => void) => {
    if (request.path !== '/' || !['GET', 'HEAD'].includes(request.method)) {
      next();
      return;
    }
    const isZipped = request.acceptsEncodings('gzip') !== false;
    response.set({
      'Content-Type': 'text/javascript; charset=utf-8',
      'Cache-Control': 'public, max-age=300',
      'Access-Control-Allow-Origin': '*',
      'Cross-Origin-Resource-Policy': 'cross-origin',
      ETag: `"${tag}${isZipped ? '-gzip' : ''}"`,
      Vary: 'Accept-Encoding',
      ...(isZipped && { 'Content-Encoding': 'gzip' }),
    });
    response.send(isZipped ? zipped : plain);
  });
}
