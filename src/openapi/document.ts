import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { ALLOWANCE_HEADERS, allowanceHeaders } from '../http/allowance-headers.js';
import { ERROR_CODE_HEADER } from '../http/plain-errors.filter.js';
import { VERSION } from '../runtime/version.js';
import { sessionEventName, sessionEventSchemas } from '../session-events/session-event.dto.js';
import { EXAMPLES } from './examples.js';
import { GUIDE } from './guide.js';

/** The parts of a document that are changed after Nest has made it from the decorators. */
interface Operation {
  operationId: string;
  security?: object[];
  parameters?: object[];
  requestBody?: { content: Record<string, MediaType> };
  responses: Record<string, OperationResponse>;
}
interface OperationResponse {
  headers?: Record<
    string,
    { $ref?: string; example?: unknown; schema?: { type?: unknown; enum?: string[] } }
  >;
  content?: Record<string, MediaType>;
}
interface MediaType {
  schema?: { allOf?: { properties?: { code?: { enum?: string[] } } }[] };
  example?: unknown;
  examples?: Record<string, { $ref: string } | { value: unknown }>;
}

/** The operations that answer in the AI SDK's protocol. */
const CHAT_STREAMS = new Set(['chat', 'resumeChat']);

const TAGS: Record<string, string> = {
  Chatbots: 'What an owner makes: a name, a greeting, and sentences that say what the chatbot knows.',
  Sessions: 'A conversation of one guest with one chatbot, and its messages.',
  Events: 'What happens in a session, as it happens.',
  Replies: 'The answer to one or more messages: poll it, stop it, ask again.',
  'AI SDK': 'The protocol of `useChat`, for front ends that are built with the AI SDK or assistant-ui.',
  Guests: 'The people who write.',
  Operations:
    'For those who run the service. A worker on its own has them on `WORKER_HEALTH_PORT`. Not listed here: the queue board, `/admin/queues`, a site of its own with Basic auth; and this document, `/openapi.json`, with its pages, `/docs`.',
};

/**
 * The OpenAPI document of the routes that an application has. What belongs to one route stands at its controller;
 * here is what is the same for all.
 */
export function createOpenApiDocument(app: INestApplication): OpenAPIObject {
  const builder = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Assistly')
    .setDescription(GUIDE)
    .setVersion(VERSION)
    .setLicense('MIT', 'https://opensource.org/license/mit')
    .addServer('/', 'Where this document was read.')
    .addBearerAuth(
      {
        type: 'http',
        scheme: 'bearer',
        bearerFormat: 'JWT',
        description:
          'Owner: a Clerk session JWT. Where no Clerk is configured: what `npm run -s token -- user_123` prints.',
      },
      'owner',
    )
    .addBearerAuth(
      {
        type: 'http',
        scheme: 'bearer',
        description: 'Guest: the `token` in the answer that opened the session. Good for that session only.',
      },
      'guest',
    )
    .addBearerAuth(
      {
        type: 'http',
        scheme: 'bearer',
        bearerFormat: 'JWT',
        description:
          'Verified guest: a JWT of alg HS256 that the chatbot’s owner signed with its identity secret: `sub` the owner’s id of the person, `exp` at most 30 days ahead, `aud` the chatbot’s id; `name` and `email` if it likes.',
      },
      'identity',
    )
    .addApiKey(
      {
        type: 'apiKey',
        in: 'query',
        name: 'token',
        description:
          'Watcher: an event token, for a native EventSource. Not needed where you can send headers.',
      },
      'eventToken',
    )
    .addBasicAuth(
      { type: 'http', scheme: 'basic', description: 'Operator: also of the queue board.' },
      'operator',
    )
    .addBearerAuth(
      { type: 'http', scheme: 'bearer', description: 'Operator: the METRICS_TOKEN, where one is set.' },
      'metrics',
    );
  for (const [name, description] of Object.entries(TAGS)) builder.addTag(name, description);
  const made = SwaggerModule.createDocument(app, builder.build(), { autoTagControllers: false });
  return complete(tidy(made));
}

const REQUEST_ID = {
  parameter: {
    name: 'X-Request-Id',
    in: 'header',
    description:
      'An id of your own for this request: at most 128 visible ASCII characters. Without one, it gets one.',
    required: false,
    schema: { type: 'string', maxLength: 128, pattern: '^[\\x21-\\x7e]+$' },
  },
  header: {
    description: 'The id of this request, in our logs too: yours, or one that was made for it.',
    required: true,
    schema: { type: 'string' },
  },
};

/** Adds what is the same everywhere, and the examples. */
function complete(document: OpenAPIObject): OpenAPIObject {
  const schemas = { ...document.components?.schemas, ...sessionEventSchemas() };
  for (const example of Object.values(EXAMPLES.events)) {
    Object.assign(schemas[sessionEventName(example.event)] ?? {}, { examples: [example] });
  }
  document.components = {
    ...document.components,
    schemas: Object.fromEntries(Object.entries(schemas).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    parameters: { RequestId: REQUEST_ID.parameter },
    headers: { RequestId: REQUEST_ID.header, ...allowanceHeaders },
    examples: Object.fromEntries(Object.entries(EXAMPLES.problems).map(([code, value]) => [code, { value }])),
  } as OpenAPIObject['components'];
  for (const item of Object.values(document.paths)) {
    for (const operation of Object.values(item) as Operation[]) completeOperation(operation);
  }
  return document;
}

function completeOperation(operation: Operation): void {
  operation.security ??= []; // public, explicitly
  operation.parameters = [...(operation.parameters ?? []), { $ref: '#/components/parameters/RequestId' }];
  const example = EXAMPLES.answers[operation.operationId];
  const requested = operation.requestBody?.content['application/json'];
  if (requested && example?.request !== undefined) requested.example = example.request;
  for (const [status, response] of Object.entries(operation.responses)) {
    if (example && status === String(example.status)) {
      for (const [name, header] of Object.entries(response.headers ?? {})) {
        const value = example.headers[name.toLowerCase()];
        if (value !== undefined) header.example = value;
      }
      const json = response.content?.['application/json'];
      if (json) json.example = example.body;
    }
    const stream = response.content?.['text/event-stream'];
    if (stream)
      stream.example = CHAT_STREAMS.has(operation.operationId) ? EXAMPLES.chatStream : EXAMPLES.stream;
    const plain = response.content?.['text/plain'];
    const codes = response.headers?.[ERROR_CODE_HEADER]?.schema?.enum;
    if (plain && codes) plain.examples = sentenceExamples(codes);
    const problem = response.content?.['application/problem+json'];
    if (problem) problem.examples = problemExamples(problem, operation);
    if ('429' in operation.responses) {
      response.headers = {
        ...response.headers,
        ...Object.fromEntries(
          ALLOWANCE_HEADERS.map((name) => [name, { $ref: `#/components/headers/${name}` }]),
        ),
      };
    }
    response.headers = { ...response.headers, 'X-Request-Id': { $ref: '#/components/headers/RequestId' } };
  }
}

function sentenceExamples(codes: readonly string[]): Record<string, { value: string }> {
  const detailOf = (code: string): string =>
    EXAMPLES.sentences[code] ?? EXAMPLES.problems[code]?.detail ?? '';
  return Object.fromEntries(codes.map((code) => [code, { value: detailOf(code) }]));
}

function problemExamples(problem: MediaType, operation: Operation): Record<string, { $ref: string }> {
  const codes = problem.schema?.allOf?.[1]?.properties?.code?.enum ?? [];
  return Object.fromEntries(
    codes.map((code) => {
      const name = code === 'invalid_request' && !operation.requestBody ? 'invalid_parameter' : code;
      return [code, { $ref: `#/components/examples/${name}` }];
    }),
  );
}

/**
 * The classes are called `ReplyDto`, what clients see is a `Reply`. And a reference that has a description is an
 * `allOf` of one to Nest, as OpenAPI 3.0 wanted it; 3.1 lets both stand side by side.
 */
function tidy(document: OpenAPIObject): OpenAPIObject {
  const tidied = JSON.parse(JSON.stringify(document), (key, value: unknown) => {
    if (key === '$ref' && typeof value === 'string') return value.replace(/Dto$/, '');
    if (typeof value !== 'object' || value === null) return value;
    if (key === 'schemas') {
      return Object.fromEntries(
        Object.entries(value).map(([name, schema]) => [name.replace(/Dto$/, ''), schema]),
      );
    }
    const { allOf, ...rest } = value as { allOf?: object[] };
    return allOf?.length === 1 ? { ...rest, ...allOf[0] } : value;
  });
  return tidied as OpenAPIObject;
}
