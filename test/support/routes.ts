import { operations, resolve } from './contract.js';

/**
 * The routes of /v1 as openapi.json has them, where each change is reviewed, with what tests of all routes need: a new
 * route is tested with the others without being added to a list.
 */

type Json = any;

export type Caller = 'public' | 'owner' | 'guest' | 'watcher' | 'person';

export interface Route {
  method: string;
  /** As the document has it, `/v1/sessions/{id}`. */
  path: string;
  /** Who may call it. */
  callers: Caller[];
  /** What its ids are of, in their order: the path's segment before each, such as `sessions`. */
  collections: string[];
  body: { schema: Json; example: object } | null;
  /** The status of its good answer. */
  success: number;
  /** Whether its errors are a sentence, for clients that show it as it is. */
  hasPlainErrors: boolean;
}

const CALLERS: Record<string, Caller> = {
  owner: 'owner',
  guest: 'guest',
  eventToken: 'watcher',
  identity: 'person',
};

function callersOf(security: Record<string, unknown>[]): Caller[] {
  // A credential that may be left out changes who is asking, not who may.
  if (security.length === 0 || security.some((scheme) => Object.keys(scheme).length === 0)) return ['public'];
  return security.flatMap(Object.keys).map((scheme) => {
    const caller = CALLERS[scheme];
    if (caller === undefined) throw new Error(`no test knows who has the credential "${scheme}"`);
    return caller;
  });
}

export const ROUTES: Route[] = operations
  .filter(({ route }) => route.startsWith('/v1/'))
  .map(({ method, route, definition }) => {
    const json = definition.requestBody?.content['application/json'];
    return {
      method,
      path: route,
      callers: callersOf(definition.security),
      collections: [...route.matchAll(/([\w-]+)\/\{/g)].map(([, collection = '']) => collection),
      body: json ? { schema: resolve(json.schema), example: json.example } : null,
      hasPlainErrors: 'text/plain' in (definition.responses['401']?.content ?? {}),
      success: Number(Object.keys(definition.responses).find((status) => status.startsWith('2'))),
    };
  });

/** The path with ids in it, in their order. */
export function fill(path: string, ids: readonly string[]): string {
  const rest = [...ids];
  return path.replaceAll(/\{\w+\}/g, () => rest.shift() ?? '');
}

/** A field of a body that takes text. */
export interface Field {
  /** Of the field in the body, as problems name it. */
  pointer: string;
  /** A body that is good but for this field's value. */
  with: (value: unknown) => object;
  maxLength: number;
  /** Null and blanks clear it, and it may be left out. */
  isClearable: boolean;
  isRequired: boolean;
  isEmail: boolean;
}

/** No valid address is longer, whatever the schema allows. */
const LONGEST_EMAIL = 254;

/** The fields of a body: texts, lists of texts, and those of an object in it. */
export function fieldsOf({ schema, example }: NonNullable<Route['body']>): Field[] {
  const required = Object.fromEntries(
    Object.entries(example).filter(([name]) => schema.required?.includes(name)),
  );
  return fieldsIn(schema, '', (part) => ({ ...required, ...part }));
}

function fieldsIn(schema: Json, at: string, toBody: (part: object) => object): Field[] {
  return Object.entries<Json>(schema.properties).flatMap(([name, property]) => {
    const pointer = `${at}/${name}`;
    const object = (property.anyOf ?? [property]).map(resolve).find(({ type }: Json) => type === 'object');
    if (object) return fieldsIn(object, pointer, (part) => toBody({ [name]: part }));
    if (['boolean', 'integer'].includes([property.type].flat()[0])) return []; // what is bad for one, the tests of its subject know
    if ([property.type].flat().includes('object')) return []; // of a form of its own
    if (property.type?.includes('array') && property.type !== 'array') return []; // the same, of a list that null clears
    const isList = property.type === 'array';
    const text = isList ? property.items : property;
    if (text.enum) return []; // the same
    if (text.format === 'uri' || text.format === 'uuid') return []; // the same
    if (text.pattern?.startsWith('^')) return []; // and what people do not write
    const types = [text.type].flat();
    if (!types.includes('string')) throw new Error(`no test knows what is bad for ${pointer}`);
    const isEmail = text.format === 'email';
    return {
      pointer,
      with: (value: unknown) => toBody({ [name]: isList ? ['fine', value] : value }),
      maxLength: isEmail ? LONGEST_EMAIL : text.maxLength,
      isClearable: types.includes('null'),
      isRequired: schema.required?.includes(name) ?? false,
      isEmail,
    };
  });
}
