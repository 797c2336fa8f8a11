import { fileURLToPath } from 'node:url';

/**
 * How `npm run client:generate` makes src/generated from the API's document.
 *
 * @type {Omit<import('@hey-api/openapi-ts').UserConfig, 'output'> & { output: { path: string } }}
 */
export default {
  input: fileURLToPath(new URL('../openapi.json', import.meta.url)),
  output: { path: fileURLToPath(new URL('src/generated', import.meta.url)), importFileExtension: '.js' },
  plugins: [{ name: '@hey-api/client-fetch' }, '@hey-api/typescript', '@hey-api/sdk'],
};
