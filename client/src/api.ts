/**
 * Every route of the API, typed, as generated from its OpenAPI document. `client.setConfig({ baseUrl, auth })` says where
 * it is and who is calling.
 */
export * from './generated/index.js';
export { client } from './generated/client.gen.js';
