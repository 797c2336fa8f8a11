import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { CONNECTION_PROBLEMS } from '../../src/http/problem-api.js';
import { PROBLEM_CODES } from '../../src/runtime/app-error.js';
import { EventType } from '../../src/events/event-stream.js';
import { EXAMPLES } from '../../src/openapi/examples.js';
import { contract, errorsAgainst, errorsOf, operations } from '../support/contract.js';
import { createApp, createOpenApiDocument, loadConfig, Role } from '../support/product.js';

type Json = any;

describe('openapi.json', () => {
  let app: NestExpressApplication;
  const stateDir = mkdtempSync(join(tmpdir(), 'assistly-state-'));
  beforeAll(async () => {
    const env = { NODE_ENV: 'test', LOG_LEVEL: 'silent', DATABASE_URL: 'postgres://127.0.0.1/none' };
    app = await createApp(loadConfig(Role.Api, env, stateDir));
  });
  afterAll(async () => {
    await app.close();
    rmSync(stateDir, { recursive: true, force: true });
  });

  it('asks for a credential, but to look at a chatbot, to open a session, and for what operators watch', () => {
    const open = operations.filter(
      ({ definition: { security } }) =>
        // A person may say who it is, and need not.
        security.some((scheme: object) => Object.keys(scheme).length === 0) ||
        security.flatMap(Object.keys).every((name: string) => /^(operator|metrics)$/.test(name)),
    );
    expect(open.map(({ id }) => id).sort()).toEqual([
      'getLiveness',
      'getMetrics', // for nobody where there is no METRICS_TOKEN
      'getPublicChatbot',
      'getReadiness',
      'getReplyLife',
      'openSession',
    ]);
  });

  it('is what the code makes', () => {
    const made = `${JSON.stringify(createOpenApiDocument(app), null, 2)}\n`;
    const checkedIn = readFileSync(join(import.meta.dirname, '../../openapi.json'), 'utf8');
    if (made !== checkedIn) {
      const [line] = made
        .split('\n')
        .flatMap((text, i) => (text === checkedIn.split('\n')[i] ? [] : [i + 1]));
      throw new Error(`openapi.json is not up to date, from line ${line} on. Run: npm run openapi`);
    }
  });

  it('has a real answer as the example of every operation, and a request where it takes a body', () => {
    const wanted = operations.filter(
      ({ definition }) =>
        Object.entries<Json>(definition.responses).some(
          ([status, { content }]) => status.startsWith('2') && content?.['application/json'],
        ) || definition.requestBody,
    );
    expect(Object.keys(EXAMPLES.answers).sort()).toEqual(wanted.map(({ id }) => id).sort());
    for (const { id, definition } of operations) {
      const json = definition.requestBody?.content['application/json'];
      if (json) expect([id, json.example]).toEqual([id, expect.any(Object)]);
    }
  });

  it('has examples that its schemas allow, and nothing in them that they do not declare', () => {
    const errors = operations.flatMap(({ id, definition, pointer }) => {
      const media = [
        ...Object.keys(definition.requestBody?.content ?? {}).map((type) => ['requestBody', type]),
        ...Object.entries<Json>(definition.responses).flatMap(([status, { content }]) =>
          Object.keys(content ?? {}).map((type) => [`responses/${status}`, type]),
        ),
      ] as [string, string][];
      return media.flatMap(([part, type]) => {
        const { example, examples } = part.split('/').reduce<Json>((at, key) => at[key], definition).content[
          type
        ];
        const values: unknown[] = examples
          ? Object.values<Json>(examples).map(({ $ref, value }) =>
              $ref === undefined ? value : contract.components.examples[$ref.split('/').at(-1)].value,
            )
          : [example];
        const schema = `${pointer}/${part}/content/${encodeURIComponent(type.replace('/', '~1'))}/schema`;
        return values.flatMap((value) => errorsAgainst(schema, value).map((error) => [id, part, error]));
      });
    });
    expect(errors).toEqual([]);
  });

  it('has examples with ids of version 7', () => {
    const ids = JSON.stringify([EXAMPLES.answers, EXAMPLES.events]).match(/[0-9a-f]{8}-[0-9a-f-]{27}/g);
    expect(ids?.filter((id) => !/^.{14}7.{4}[89ab]/.test(id))).toEqual([]);
  });

  it('has a schema and an example for every type of event', () => {
    const { mapping } = contract.components.schemas.SessionEvent.discriminator;
    expect(Object.keys(mapping).sort()).toEqual(Object.values(EventType).sort());
    expect(Object.keys(EXAMPLES.events).sort()).toEqual(Object.values(EventType).sort());
    for (const [type, schema] of Object.entries<string>(mapping)) {
      expect([type, errorsAgainst(schema.slice(1), EXAMPLES.events[type])]).toEqual([type, []]);
    }
  });

  it('says of every problem code where it comes from, and shows a real one', () => {
    const used = operations.flatMap(({ definition }) =>
      Object.values<Json>(definition.responses).flatMap(({ content }) =>
        Object.keys((content?.['application/problem+json'] ?? content?.['text/plain'])?.examples ?? {}),
      ),
    );
    const ofRoutes = PROBLEM_CODES.filter((code) => !CONNECTION_PROBLEMS.includes(code));
    expect([...new Set(used)].sort()).toEqual([...ofRoutes].sort());
    for (const code of ofRoutes) {
      if (code in EXAMPLES.sentences) expect(EXAMPLES.sentences[code]).toMatch(/^[A-Z].*\.$/);
      else expect(EXAMPLES.problems[code]).toMatchObject({ code });
    }
  });
});

describe('an answer', () => {
  const good = {
    method: 'GET',
    url: 'http://127.0.0.1/v1/chatbots/01a203eb-82fd-76a1-a5fa-4018ce01bf49/public',
    requestHeaders: new Headers(),
    requestBody: undefined,
    status: 200,
    headers: new Headers({ 'content-type': 'application/json; charset=utf-8', 'x-request-id': 'a' }),
    text: JSON.stringify(EXAMPLES.answers['getPublicChatbot']!.body),
  };
  const problem = JSON.stringify(EXAMPLES.problems['not_found']);

  it('may be as the document says', () => {
    expect(errorsOf(good)).toEqual([]);
  });

  it.each<[string, Partial<typeof good>]>([
    ['a status that is not declared', { status: 201 }],
    [
      'a content type that is not declared',
      { headers: new Headers({ 'content-type': 'text/html', 'x-request-id': 'a' }) },
    ],
    ['a header too little', { headers: new Headers({ 'content-type': 'application/json' }) }],
    ['a header too much', { headers: new Headers([...good.headers, ['location', '/']]) }],
    ['a property too much', { text: good.text.replace('{', '{"model":null,') }],
    ['a property too little', { text: good.text.replace('"name":"Bakery",', '') }],
    ['a value of another type', { text: good.text.replace('null', '1') }],
    ['an id that is none', { text: good.text.replace(/-7[0-9a-f]{3}-/, '-') }],
    ['a problem under a good status', { text: problem }],
    ['a route that is not there', { url: 'http://127.0.0.1/v1/nothing' }],
  ])('is refused for %s', (_, change) => {
    expect(errorsOf({ ...good, ...change })).not.toEqual([]);
  });

  it('is refused for a problem code that the status does not have', () => {
    const answer = {
      ...good,
      status: 404,
      headers: new Headers({ 'content-type': 'application/problem+json', 'x-request-id': 'a' }),
    };
    expect(errorsOf({ ...answer, text: problem })).toEqual([]);
    expect(errorsOf({ ...answer, text: problem.replace('"not_found"', '"unauthorized"') })).not.toEqual([]);
  });
});
