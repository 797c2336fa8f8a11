import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApp } from '../create-app.js';
import { loadConfig, Role } from '../config/env.js';
import { createOpenApiDocument } from '../openapi/document.js';

/** `npm run openapi`: writes openapi.json. Nothing is connected to: an application that is made, and not started. */
const stateDir = mkdtempSync(join(tmpdir(), 'assistly-openapi-'));
try {
  const env = { NODE_ENV: 'test', LOG_LEVEL: 'silent', DATABASE_URL: 'postgres://127.0.0.1/none' };
  const app = await createApp(loadConfig(Role.Api, env, stateDir));
  writeFileSync('openapi.json', `${JSON.stringify(createOpenApiDocument(app), null, 2)}\n`);
  await app.close();
} finally {
  rmSync(stateDir, { recursive: true, force: true });
}
