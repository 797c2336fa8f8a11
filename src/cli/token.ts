import { signLocalOwnerToken } from '../auth/owner-tokens.js';
import { loadEnvFile, localTokensRefusal, STATE_DIR } from '../config/env.js';

/** `npm run -s token -- <clerk user id>`: prints an owner token for a clone where Clerk is not configured. */
loadEnvFile();
const [clerkUserId] = process.argv.slice(2);
const refusal = localTokensRefusal();
if (clerkUserId === undefined || clerkUserId.trim() === '') {
  console.error('Usage: npm run -s token -- <clerk user id>, for example user_123');
  process.exitCode = 2;
} else if (refusal !== null) {
  console.error(`No token: ${refusal}.`);
  process.exitCode = 1;
} else {
  console.log(signLocalOwnerToken(STATE_DIR, clerkUserId));
}
