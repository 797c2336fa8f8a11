import { readFileSync, writeFileSync } from 'node:fs';
import { envExample, withSettingsTables } from '../config/settings-documents.js';

/** `npm run docs:settings`: writes .env.example, and the tables of deploy/settings.md. */
writeFileSync('.env.example', envExample());
const page = 'deploy/settings.md';
writeFileSync(page, withSettingsTables(readFileSync(page, 'utf8')));
