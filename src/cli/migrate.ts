import { databaseUrlForTools, loadEnvFile } from '../config/env.js';
import { migrate } from '../database/migrate.js';

/** `npm run db:migrate`: brings the database of DATABASE_URL to the schema of this version. */
loadEnvFile();
const databaseUrl = databaseUrlForTools();
if (databaseUrl === undefined || databaseUrl.trim() === '') {
  console.error('DATABASE_URL is missing: the URL of the PostgreSQL database to migrate.');
  process.exitCode = 1;
} else {
  try {
    const ran = await migrate(databaseUrl);
    console.log(ran.length === 0 ? 'The schema is up to date.' : `Migrated: ${ran.join(', ')}.`);
  } catch (error) {
    console.error(`The migration failed: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
