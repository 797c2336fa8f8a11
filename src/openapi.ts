import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';

const DESCRIPTION = `
Chatbots for owners, conversations for guests. A message is answered by a *reply*: posting stores both and answers
at once; a worker generates the text; follow it as server-sent events, or poll.

1. \`POST /v1/chatbots\` as an owner.
2. \`POST /v1/chatbots/{id}/sessions\` as anybody: the answer holds the session token.
3. \`POST /v1/sessions/{id}/messages\` with that token; its \`X-Event-Cursor\` header is where to follow from.
4. \`GET /v1/sessions/{id}/events?after=<cursor>\`, or \`GET /v1/replies/{id}?wait=30\`.

Every error is an RFC 9457 problem document with a stable \`code\`. Clients ignore fields, event types, senders and
statuses that they do not know; within v1 things are only added.
`.trim();

/** The OpenAPI document of the routes that an application has. */
export function createOpenApiDocument(app: INestApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('Assistly')
    .setDescription(DESCRIPTION)
    .setVersion('1')
    .setLicense('MIT', 'https://opensource.org/license/mit')
    .addServer('/')
    .addBearerAuth(
      { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'A Clerk session JWT.' },
      'owner',
    )
    .addBearerAuth({ type: 'http', scheme: 'bearer', description: 'The token of one session.' }, 'guest')
    .addApiKey({ type: 'apiKey', in: 'query', name: 'token', description: 'An event token.' }, 'eventToken')
    .addBasicAuth({ type: 'http', scheme: 'basic', description: 'The operator’s.' }, 'operator')
    .addBearerAuth({ type: 'http', scheme: 'bearer', description: 'The METRICS_TOKEN.' }, 'metrics')
    .build();
  return SwaggerModule.createDocument(app, config, { autoTagControllers: false });
}

/** Serves `/openapi.json` and `/docs`. The document is made at the first request for it. */
export function setUpOpenApi(app: INestApplication): void {
  SwaggerModule.setup('docs', app, () => createOpenApiDocument(app), {
    jsonDocumentUrl: 'openapi.json',
    customSiteTitle: 'Assistly API',
  });
}
