/**
 * The product as it was built, of which a Jest worker loads each module once (product-environment.mjs). What is looked
 * up in a running app by its class or token has to come from here: the same file imported from `src/` is another class.
 */
export const { createApp } = await importProduct<typeof import('../../src/create-app.js')>('create-app.js');
export const { loadConfig, Role } =
  await importProduct<typeof import('../../src/config/env.js')>('config/env.js');
export const { signLocalOwnerToken } =
  await importProduct<typeof import('../../src/auth/owner-tokens.js')>('auth/owner-tokens.js');
export const { createOpenApiDocument } =
  await importProduct<typeof import('../../src/openapi/document.js')>('openapi/document.js');
