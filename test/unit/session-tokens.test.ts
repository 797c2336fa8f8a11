import { describe, expect, it } from '@jest/globals';
import {
  createEventToken,
  createSessionSecrets,
  EVENT_TOKEN_LIFETIME_MS,
  hashToken,
  isEventTokenOf,
  isSessionToken,
  readEventToken,
} from '../../src/auth/session-tokens.js';

const SESSION = '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b';

describe('a session token', () => {
  it('is random, recognised by its form, and stored as a hash only', () => {
    const [a, b] = [createSessionSecrets(), createSessionSecrets()];

    expect(a.token).not.toBe(b.token);
    expect(isSessionToken(a.token)).toBe(true);
    expect(Buffer.from(a.token.slice(4), 'base64url')).toHaveLength(32);
    expect(a.tokenHash).toBe(hashToken(a.token));
    expect(JSON.stringify([a.tokenHash, a.eventTokenKey])).not.toContain(a.token.slice(4));
  });
});

describe('an event token', () => {
  const { eventTokenKey: key } = createSessionSecrets();

  it('names its session and is good for sixty minutes', () => {
    const now = Date.parse('2026-11-22T12:00:00Z');
    const { token, expiresAt } = createEventToken(SESSION, key, now);

    expect(expiresAt.toISOString()).toBe('2026-11-22T13:00:00.000Z');
    expect(readEventToken(token, now)).toEqual({ sessionId: SESSION });
    expect(readEventToken(token, now + EVENT_TOKEN_LIFETIME_MS - 1_000)).not.toBeNull();
    expect(readEventToken(token, now + EVENT_TOKEN_LIFETIME_MS)).toBeNull();
    expect(isEventTokenOf(token, key)).toBe(true);
  });

  it('is refused with another key, another session, or a later end', () => {
    const { token } = createEventToken(SESSION, key);
    const [id, expires, signature] = token.slice(4).split('.') as [string, string, string];

    expect(isEventTokenOf(token, createSessionSecrets().eventTokenKey)).toBe(false);
    expect(isEventTokenOf(`aet_${id.replace('0190', '0191')}.${expires}.${signature}`, key)).toBe(false);
    expect(isEventTokenOf(`aet_${id}.${Number(expires) + 1}.${signature}`, key)).toBe(false);
    expect(isEventTokenOf(`aet_${id}.${expires}.${'A'.repeat(43)}`, key)).toBe(false);
  });

  it.each(['', 'aet_', 'aet_x.1.y', `aet_${SESSION}.9999999999.short`, 'x'.repeat(9_000)])(
    'is none where it has another form: %j',
    (text) => {
      expect(readEventToken(text)).toBeNull();
      expect(isEventTokenOf(text, key)).toBe(false);
    },
  );
});
