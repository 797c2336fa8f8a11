import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * The two credentials of a chat session. A session token is random and opaque, and only its hash is stored. An
 * event token is signed with a key that lives in the session's row, so that both end with the session.
 */

const SESSION_TOKEN_PREFIX = 'ast_';
const EVENT_TOKEN_PREFIX = 'aet_';
/** 256 bits. */
const SECRET_BYTES = 32;
const SESSION_TOKEN = /^ast_[A-Za-z0-9_-]{43}$/;
const EVENT_TOKEN = /^aet_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{10,12})\.([A-Za-z0-9_-]{43})$/;

/** How long an event token is good, reconnects included. */
export const EVENT_TOKEN_LIFETIME_MS = 60 * 60_000;

export const hashToken = (token: string): string => createHash('sha256').update(token).digest('hex');

export const isSessionToken = (token: string): boolean => SESSION_TOKEN.test(token);

/** A new token of a session, and what is stored of it. */
export function createSessionToken(): { token: string; tokenHash: string } {
  const token = SESSION_TOKEN_PREFIX + randomBytes(SECRET_BYTES).toString('base64url');
  return { token, tokenHash: hashToken(token) };
}

/** What a new session needs: the token for the guest, and what is stored. */
export function createSessionSecrets(): { token: string; tokenHash: string; eventTokenKey: string } {
  return { ...createSessionToken(), eventTokenKey: randomBytes(SECRET_BYTES).toString('hex') };
}

const signatureOf = (sessionId: string, expiresAtSeconds: number, key: string): Buffer =>
  createHmac('sha256', Buffer.from(key, 'hex')).update(`${sessionId}.${expiresAtSeconds}`).digest();

export function createEventToken(
  sessionId: string,
  eventTokenKey: string,
  now: number = Date.now(),
): { token: string; expiresAt: Date } {
  const expiresAtSeconds = Math.floor((now + EVENT_TOKEN_LIFETIME_MS) / 1000);
  const signature = signatureOf(sessionId, expiresAtSeconds, eventTokenKey).toString('base64url');
  return {
    token: `${EVENT_TOKEN_PREFIX}${sessionId}.${expiresAtSeconds}.${signature}`,
    expiresAt: new Date(expiresAtSeconds * 1000),
  };
}

/** The session that an event token claims to be for, unverified; null where it is none or has expired. */
export function readEventToken(token: string, now: number = Date.now()): { sessionId: string } | null {
  const match = EVENT_TOKEN.exec(token);
  if (!match || Number(match[2]) * 1000 <= now) return null;
  return { sessionId: match[1]! };
}

/** Whether an event token that {@link readEventToken} took was signed with this session's key. */
export function isEventTokenOf(token: string, eventTokenKey: string): boolean {
  const match = EVENT_TOKEN.exec(token);
  if (!match) return false;
  const given = Buffer.from(match[3]!, 'base64url');
  const expected = signatureOf(match[1]!, Number(match[2]), eventTokenKey);
  return given.length === expected.length && timingSafeEqual(given, expected);
}
