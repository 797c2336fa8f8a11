import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

/**
 * The schemas of the checked-in openapi.json, more strictly than clients are told to read them: what is not declared may not
 * be there. A Jest worker compiles each of them once, for all its files (product-environment.mjs).
 */

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** Of any version: tests store rows of their own, too. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export const contract = JSON.parse(readFileSync(join(import.meta.dirname, '../../openapi.json'), 'utf8'));

/**
 * Refuses what an object schema does not declare, but for one that says that it may hold more. A member of `allOf` sees only
 * a part, and stays as it is.
 *
 * @param {any} node
 * @returns {any}
 */
function strict(node, isPart = false) {
  if (Array.isArray(node)) return node.map((item) => strict(item, isPart));
  if (typeof node !== 'object' || node === null) return node;
  const copy = Object.fromEntries(
    Object.entries(node).map(([key, value]) => [
      key,
      key === 'example' || key === 'examples' ? value : strict(value, key === 'allOf'),
    ]),
  );
  const isOpen = copy['additionalProperties'] === true;
  return copy['type'] === 'object' && !isPart && !isOpen ? { ...copy, unevaluatedProperties: false } : copy;
}

const ajv = new Ajv2020({ strict: false, allErrors: true, coerceTypes: false });
formats.default(ajv);
ajv.addFormat('date-time', TIME).addFormat('uuid', UUID);
ajv.addSchema(strict(contract), 'openapi');

/** @type {Map<string, import('ajv').ValidateFunction>} */
const compiled = new Map();

/**
 * @param {string} pointer to a schema, in the document
 * @param {unknown} value
 * @returns what is wrong with the value, one line each
 */
export function errorsAgainst(pointer, value) {
  let validate = compiled.get(pointer);
  if (!validate) {
    validate = ajv.compile({ $ref: `openapi#${pointer}` });
    compiled.set(pointer, validate);
  }
  if (validate(value)) return [];
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) =>
      `${instancePath || 'the value'} ${message ?? 'is wrong'} ${JSON.stringify(params)}`,
  );
}

/**
 * @param {object} schema of a header or a parameter
 * @param {unknown} value
 * @returns what is wrong with it; null: nothing
 */
export function errorOf(schema, value) {
  return ajv.validate(schema, value) ? null : ajv.errorsText();
}
