import { readFileSync } from 'node:fs';
import { type ProblemCode, PROBLEMS } from '../runtime/app-error.js';
import { EVENT_DESCRIPTIONS } from '../session-events/session-event.dto.js';
import { EXAMPLES } from './examples.js';

/** What a front end does about each error. */
const ADVICE: Record<ProblemCode, string> = {
  invalid_request: 'Show `errors` beside the fields that their `pointer`s name.',
  malformed_request: 'A bug in the client, or in what stands between.',
  malformed_json: 'A bug in the client.',
  invalid_cursor: 'Start the list again without a cursor.',
  unauthorized: 'Get a fresh token. For a guest: the session is gone; open another.',
  origin_not_allowed:
    'The page is not allowed: add its origin to `allowedOrigins` of the chatbot, or for owners to `CORS_ORIGINS`.',
  chatbot_disabled: 'Say that the chat is closed, and keep showing what was said.',
  not_found: 'It is not there, or not yours; the two look the same.',
  request_timeout: 'The connection is too slow: try again.',
  reply_not_retryable: 'Hide the button: it is not the latest reply, or it is not final.',
  message_not_editable: 'Send what was changed as a new message.',
  idempotency_in_progress: 'Send the same again after `Retry-After` seconds.',
  session_full: 'Open another session.',
  limit_reached: 'Something must be deleted first.',
  payload_too_large: 'Bodies are at most 128 KiB, a chatbot’s as large as its limits together need.',
  unsupported_media_type: 'Send `Content-Type: application/json`, and no `Content-Encoding`.',
  expectation_failed: 'Send no `Expect` but `100-continue`.',
  idempotency_key_reused: 'A bug in the client: a new request needs a new key.',
  rate_limited:
    'Wait for `Retry-After` seconds, then send the same again; `limit` says what there was too much of.',
  reply_full: 'Send the same again after `Retry-After` seconds: the replies before it are being made.',
  headers_too_large: 'Send fewer headers: 16 KiB are taken.',
  internal_error: 'Say sorry, and show the `requestId`, with which it is found in the logs.',
  service_unavailable: 'Try again, after `Retry-After` seconds where the answer says so.',
};

const PROBLEM_ROWS = Object.entries(PROBLEMS)
  .map(([code, { status }]) => `| ${status} | \`${code}\` | ${ADVICE[code as ProblemCode]} |`)
  .join('\n');

const EVENT_ROWS = Object.entries(EVENT_DESCRIPTIONS)
  .map(([type, description]) => {
    const fields = Object.keys(EXAMPLES.events[type]?.data ?? {}).join(', ');
    return `| \`${type}\` | \`{ ${fields} }\` | ${description} |`;
  })
  .join('\n')
  .replaceAll('{  }', '{}');

/**
 * What `/docs` opens with, from nothing to a streamed reply: guide.md, with the rows of its tables. A test runs the
 * JavaScript in it, which is one program (guide.test.ts).
 */
export const GUIDE = readFileSync(new URL('guide.md', import.meta.url), 'utf8')
  .trim()
  .replace('<!-- a row for each event -->', () => EVENT_ROWS)
  .replace('<!-- a row for each problem code -->', () => PROBLEM_ROWS);
