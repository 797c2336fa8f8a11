// The product as it comes, but for limits that are counted and never reached: all load comes from one address.
import { randomUUID } from 'node:crypto';

const MANY = 1_000_000;
const RATES = [
  'SESSIONS_PER_ADDRESS',
  'SESSIONS_PER_CHATBOT',
  'MESSAGES_PER_SESSION',
  'MESSAGES_PER_ADDRESS',
  'MESSAGES_PER_CHATBOT',
  'ACTIONS_PER_SESSION',
  'OWNER_WRITES',
  'UNANSWERED_PER_SESSION',
];

/** @param {import('./stores.mjs').Backend} backend @param {Record<string, string>} [more] */
export const settingsOf = ({ redisUrl }, more = {}) => ({
  LOG_LEVEL: 'info',
  ...Object.fromEntries(RATES.map((name) => [`LIMIT_${name}`, `${MANY}/60`])),
  LIMIT_STREAMS_PER_ADDRESS: '100000',
  LIMIT_SESSION_MESSAGES: String(MANY),
  LIMIT_SESSION_CHARS: '1000000000',
  ...(redisUrl !== null && { REDIS_URL: redisUrl, REDIS_PREFIX: `bench-${randomUUID().slice(0, 8)}` }),
  ...more,
});
