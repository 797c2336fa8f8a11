import { appendFileSync } from 'node:fs';

/**
 * Holds what the product answers against the checked-in openapi.json (schemas.mjs). Tests speak HTTP through {@link checkedFetch}; whatever breaks the contract is
 * collected, since a test may be waiting for something else, and fails the test at its end (check-contract.ts).
 */

type Json = any;

interface Operation {
  id: string;
  method: string;
  /** As the document has it, `/v1/sessions/{id}`. */
  route: string;
  /** Matches the paths of its route. */
  path: RegExp;
  /** Where it stands in the document, as a JSON pointer. */
  pointer: string;
  definition: Json;
}

/** Operators' pages, which the document only mentions. */
const NOT_IN_DOCUMENT = /^\/(?:docs|openapi\.json|admin\/queues)\b/;
export const { contract, errorsAgainst, errorOf } =
  await importSupport<typeof import('./schemas.mjs')>('schemas.mjs');

const escape = (key: string): string => encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'));

export const operations: Operation[] = Object.entries<Json>(contract.paths).flatMap(([path, item]) =>
  Object.entries<Json>(item).map(([method, definition]) => ({
    id: definition.operationId,
    method: method.toUpperCase(),
    route: path,
    path: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
    pointer: `/paths/${escape(path)}/${method}`,
    definition,
  })),
);

/** What a reference stands for. */
export const resolve = (node: Json): Json =>
  node?.$ref === undefined
    ? node
    : node.$ref
        .replace('#/', '')
        .split('/')
        .reduce((at: Json, key: string) => at[key], contract);

/** Every header that some response declares: undeclared, such a header may not be sent. */
const KNOWN_HEADERS = new Set(
  operations
    .flatMap(({ definition }) => Object.values<Json>(definition.responses))
    .flatMap(({ headers }) => Object.keys(headers ?? {}).map((name) => name.toLowerCase()))
    .filter((name) => name !== 'cache-control'), // which proxies and frameworks may use elsewhere
);

const violations: string[] = [];
/** What broke the contract since the last call. */
export const takeViolations = (): string[] => violations.splice(0);

const seen = new Set<string>();
/** For the list of what no test has seen, which the global teardown makes. */
function note(what: string): void {
  const file = process.env['ASSISTLY_TEST_SEEN'];
  if (file === undefined || seen.has(what)) return;
  seen.add(what);
  appendFileSync(file, `${what}\n`);
}

export interface Exchange {
  method: string;
  url: string;
  requestHeaders: Headers;
  requestBody: unknown;
  status: number;
  headers: Headers;
  /** Null where it is a stream, whose events are checked one by one. */
  text: string | null;
}

/** @returns what the answer has that the document does not say, or lacks */
export function errorsOf(exchange: Exchange): string[] {
  const { method, status, headers, text } = exchange;
  const { pathname, searchParams } = new URL(exchange.url);
  if (method === 'HEAD' || method === 'OPTIONS' || NOT_IN_DOCUMENT.test(pathname)) return [];
  const body = text === null || text === '' ? undefined : parse(text);
  const operation = operations.find((one) => one.method === method && one.path.test(pathname));
  if (!operation) {
    return status === 404
      ? errorsAgainst('/components/schemas/Problem', body)
      : [`${status} of a route that is not in the document`];
  }
  const { definition, pointer } = operation;
  const declared = definition.responses[status];
  if (!declared) return [`the status ${status} is not declared`];
  note(
    [operation.id, status, ...(status >= 400 ? [body?.code ?? headers.get('x-error-code')] : [])].join(' '),
  );

  const errors: string[] = [];
  const type = headers.get('content-type')?.split(';')[0];
  if (!declared.content) {
    if (text) errors.push('there is a body, and none is declared');
  } else if (type === undefined || !declared.content[type]) {
    errors.push(`the content type ${type} is not declared`);
  } else if (text !== null) {
    const schema = `${pointer}/responses/${status}/content/${escape(type)}/schema`;
    errors.push(...errorsAgainst(schema, type.endsWith('json') ? body : text));
  }
  const names = Object.keys(declared.headers ?? {});
  for (const name of names) {
    const header = resolve(declared.headers[name]);
    const value = headers.get(name);
    if (value === null) {
      if (header.required) errors.push(`the header ${name} is missing`);
      continue;
    }
    const error = errorOf(header.schema, fromText(value, header.schema));
    if (error !== null) errors.push(`the header ${name}: ${value} ${error}`);
  }
  const lowerCase = new Set(names.map((name) => name.toLowerCase()));
  for (const [name] of headers) {
    if (KNOWN_HEADERS.has(name) && !lowerCase.has(name)) errors.push(`the header ${name} is not declared`);
  }
  if (status < 300) {
    errors.push(
      ...errorsOfRequest(exchange, searchParams, operation).map((error) => `accepted, but ${error}`),
    );
  }
  return errors;
}

/** What was accepted must be allowed by the document, too. */
function errorsOfRequest(
  { requestHeaders, requestBody }: Exchange,
  query: URLSearchParams,
  { definition, pointer }: Operation,
): string[] {
  const errors: string[] = [];
  for (const parameter of (definition.parameters ?? []).map(resolve)) {
    const value =
      parameter.in === 'query'
        ? query.get(parameter.name)
        : parameter.in === 'header'
          ? requestHeaders.get(parameter.name)
          : null;
    if (!value) continue;
    const error = errorOf(parameter.schema, fromText(value, parameter.schema));
    if (error !== null) errors.push(`the parameter ${parameter.name}: ${error}`);
  }
  if (definition.requestBody && typeof requestBody === 'string' && requestBody !== '') {
    const schema = `${pointer}/requestBody/content/${escape('application/json')}/schema`;
    // The document describes what is kept: the product trims names first, and takes a blank for nothing.
    const kept: unknown = JSON.parse(requestBody, (_, value) =>
      typeof value === 'string' ? value.trim() || null : value,
    );
    errors.push(...errorsAgainst(schema, kept).map((error) => `the body: ${error}`));
  }
  return errors;
}

const fromText = (value: string, schema: Json): unknown =>
  schema.type === 'integer' && /^\d+$/.test(value) ? Number(value) : value;

function parse(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Holds an answer against the document. */
export function check(exchange: Exchange): void {
  const { method, url, status } = exchange;
  violations.push(
    ...errorsOf(exchange).map((error) => `${method} ${new URL(url).pathname} → ${status}: ${error}`),
  );
}

/** Like `fetch`; what comes back is held against the document. */
export async function checkedFetch(url: string | URL, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, init);
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
  const text = isStream
    ? null
    : await response
        .clone()
        .text()
        .catch(() => undefined);
  if (text === undefined) return response; // it broke off: reading it tells the caller
  check({
    method: init.method ?? 'GET',
    url: String(url),
    requestHeaders: new Headers(init.headers),
    requestBody: init.body,
    status: response.status,
    headers: response.headers,
    text,
  });
  return response;
}

/** Holds one event of a stream against the document. */
export function checkEvent(event: { id: string; event: string; data: unknown }): void {
  const schema: string | undefined =
    contract.components.schemas.SessionEvent.discriminator.mapping[event.event];
  note(`event ${event.event}`);
  const errors = schema ? errorsAgainst(schema.slice(1), event) : ['is not in the document'];
  violations.push(...errors.map((error) => `event ${event.event}: ${error}`));
}
