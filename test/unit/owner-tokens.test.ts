import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { OwnerTokens } from '../../src/auth/owner-tokens.js';
import { AcceptedToken } from '../../src/config/setting-types.js';

/** Owners' tokens, verified with Clerk's key alone. */

const newKey = () => generateKeyPairSync('rsa', { modulusLength: 2_048 });
const [current, next, stranger] = [newKey(), newKey(), newKey()];
const pem = ({ publicKey }: { publicKey: KeyObject }): string =>
  publicKey.export({ type: 'spki', format: 'pem' }) as string;

const tokens = new OwnerTokens({
  CLERK_JWT_KEY: [pem(current), pem(next)],
  CLERK_SECRET_KEY: undefined,
  CLERK_AUTHORIZED_PARTIES: [],
  CLERK_ACCEPTED_TOKENS: [AcceptedToken.Session],
  isProduction: true,
  stateDir: '/nowhere',
});

const now = Math.floor(Date.now() / 1000);
const CLAIMS = { iss: 'https://clerk.example.com', sub: 'user_1', iat: now, nbf: now, exp: now + 60 };

function token(claims: object = {}, { header = {}, by = current } = {}): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const unsigned = `${encode({ alg: 'RS256', typ: 'JWT', kid: 'ins_1', ...header })}.${encode({ ...CLAIMS, ...claims })}`;
  return `${unsigned}.${sign('RSA-SHA256', Buffer.from(unsigned), by.privateKey).toString('base64url')}`;
}

describe('a token of an owner', () => {
  it('is good, whichever of the keys has signed it', async () => {
    expect(await tokens.verify(token())).toEqual({ clerkUserId: 'user_1' });
    expect(await tokens.verify(token({}, { by: next }))).toEqual({ clerkUserId: 'user_1' });
    expect(await tokens.verify(token({}, { by: stranger }))).toEqual({ refusal: 'signature' });
  });

  it.each([4, -4])('is good where the clocks differ by %d seconds', async (seconds) => {
    const shifted = { iat: now + seconds, nbf: now + seconds, exp: now + seconds + 1 };

    expect(await tokens.verify(token(shifted))).toEqual({ clerkUserId: 'user_1' });
  });

  it.each([
    ['an end that is no number', { exp: 'tomorrow' }],
    ['an end that is a number in words', { exp: String(now + 60) }],
    ['an end that is null', { exp: null }],
    ['an end that is a list', { exp: [now + 60] }],
    ['a beginning that is no number', { nbf: 'now' }],
    ['a making that is no number', { iat: {} }],
    ['a subject of spaces', { sub: '   ' }],
    ['a subject with a space', { sub: 'user 1' }],
    ['a subject with a line break', { sub: 'user_1\nuser_2' }],
    ['a subject with an escape', { sub: 'user_1\u001b[2J' }],
    ['a subject that is a number', { sub: 1 }],
    ['a subject that is a list', { sub: ['user_1'] }],
    ['no subject', { sub: undefined }],
    ['a subject that is too long', { sub: 'u'.repeat(256) }],
    ['an end that is past', { exp: now - 10, iat: now - 70, nbf: now - 70 }],
    ['a beginning to come', { nbf: now + 10 }],
  ])('is refused with %s', async (_what, claims) => {
    expect(await tokens.verify(token(claims))).toMatchObject({ refusal: expect.any(String) });
  });

  it.each([
    ['an extension that is not known here', { crit: ['b64'], b64: false }],
    ['an empty list of extensions', { crit: [] }],
    ['no algorithm', { alg: 'none' }],
    ['an algorithm with a shared secret', { alg: 'HS256' }],
  ])('is refused with %s in its header', async (_what, header) => {
    expect(await tokens.verify(token({}, { header }))).toMatchObject({ refusal: expect.any(String) });
  });
});
