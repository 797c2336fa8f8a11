import { errorCode } from '../runtime/error-code.js';
import { databaseUrlToMigrate, loadEnvFile } from '../config/env.js';
import { migrate } from '../migrate.js';

/** `npm run db:migrate`: brings the database of DATABASE_URL to the schema of this version. */
loadEnvFile();
try {
  const ran = await migrate(databaseUrlToMigrate(), { log: (line) => console.error(line) });
  console.log(ran.length === 0 ? 'The schema is up to date.' : `Migrated: ${ran.join(', ')}.`);
} catch (error) {
  // A refused connection to several addresses at once has a code, and no message.
  const reason = error instanceof Error && error.message !== '' ? error.message : errorCode(error);
  console.error(`Not migrated. ${reason ?? String(error)}`);
  process.exitCode = 1;
}
