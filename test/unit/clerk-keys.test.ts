import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { ClerkKeys } from '../../src/auth/clerk-keys.js';
import { OwnerTokens } from '../../src/auth/owner-tokens.js';
import { AcceptedToken } from '../../src/config/setting-types.js';

/** Owners' tokens where the keys come from Clerk: what strangers' tokens make it ask. */

const SECOND = 1_000;
const newKey = () => generateKeyPairSync('rsa', { modulusLength: 2_048 });
const [first, second, stranger] = [newKey(), newKey(), newKey()];
const served = (kid: string, { publicKey }: { publicKey: KeyObject }): object => ({
  ...publicKey.export({ format: 'jwk' }),
  kid,
  alg: 'RS256',
  use: 'sig',
});

let clock: number;
let requests: number;
let answer: () => Promise<object[]>;
let tokens: OwnerTokens;
beforeEach(() => {
  clock = 0;
  requests = 0;
  answer = async () => [served('key_1', first)];
  const keys = new ClerkKeys(
    () => {
      requests++;
      return answer();
    },
    () => clock,
    50,
  );
  const settings = {
    CLERK_JWT_KEY: undefined,
    CLERK_SECRET_KEY: 'sk_test_none',
    CLERK_AUTHORIZED_PARTIES: [],
    CLERK_ACCEPTED_TOKENS: [AcceptedToken.Session],
    isProduction: true,
    stateDir: '/nowhere',
  };
  tokens = new OwnerTokens(settings, keys);
});

function token(kid: unknown = 'key_1', by = first): string {
  const now = Math.floor(Date.now() / 1000);
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const claims = { iss: 'https://clerk.example.com', sub: 'user_1', iat: now, nbf: now, exp: now + 60 };
  const unsigned = `${encode({ alg: 'RS256', typ: 'JWT', kid })}.${encode(claims)}`;
  return `${unsigned}.${sign('RSA-SHA256', Buffer.from(unsigned), by.privateKey).toString('base64url')}`;
}

const OWNER = { clerkUserId: 'user_1' };
const UNKNOWN = { refusal: 'unknown_key' };
const NO_KEYS = { refusal: 'no_keys' };

describe('keys that Clerk tells', () => {
  it('are asked for once, however many tokens come at once and after', async () => {
    expect(await Promise.all(Array.from({ length: 50 }, () => tokens.verify(token())))).toEqual(
      Array.from({ length: 50 }, () => OWNER),
    );
    expect(await tokens.verify(token())).toEqual(OWNER);
    expect(requests).toBe(1);
  });

  it('are not good for a token that another has signed', async () => {
    expect(await tokens.verify(token('key_1', stranger))).toEqual({ refusal: 'signature' });
  });

  it('cost one request a minute for ids that there are not, whoever names them', async () => {
    await tokens.verify(token());
    for (let n = 0; n < 100; n++)
      expect(await tokens.verify(token(`forged_${n}`, stranger))).toEqual(UNKNOWN);
    expect(requests).toBe(1);

    clock += 61 * SECOND;
    const forged = Array.from({ length: 50 }, (_, n) => tokens.verify(token(`again_${n}`, stranger)));
    expect(await Promise.all(forged)).toEqual(Array.from({ length: 50 }, () => UNKNOWN));
    expect(requests).toBe(2);
    expect(await tokens.verify(token())).toEqual(OWNER);
  });

  it('are found when Clerk has changed them, within a minute', async () => {
    await tokens.verify(token());
    answer = async () => [served('key_2', second)];
    expect(await tokens.verify(token('key_2', second))).toEqual(UNKNOWN);

    clock += 61 * SECOND;

    expect(await tokens.verify(token('key_2', second))).toEqual(OWNER);
    expect(await tokens.verify(token())).toEqual(UNKNOWN); // it was taken back
    expect(requests).toBe(2);
  });

  it('are asked for again after an hour, and those that are known go on where Clerk does not answer', async () => {
    await tokens.verify(token());
    answer = () => Promise.reject(new Error('429'));
    clock += 2 * 3_600 * SECOND;

    for (let n = 0; n < 20; n++) expect(await tokens.verify(token())).toEqual(OWNER);
    expect(requests).toBe(2);
  });

  it('are asked for again where an answer never comes', async () => {
    answer = () => new Promise(() => undefined);
    expect(await tokens.verify(token())).toEqual(NO_KEYS);
    answer = async () => [served('key_1', first)];
    clock += 2 * SECOND;

    expect(await tokens.verify(token())).toEqual(OWNER);
  });

  it('are asked for ever more seldom where Clerk refuses, and nobody is let in', async () => {
    answer = () => Promise.reject(new Error('429'));
    const at: number[] = [];
    for (; clock < 300 * SECOND; clock += SECOND) {
      const before = requests;
      expect(await tokens.verify(token())).toEqual(NO_KEYS);
      if (requests > before) at.push(clock / SECOND);
    }
    expect(at).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);

    answer = async () => [served('key_1', first)];
    clock += 60 * SECOND;
    expect(await tokens.verify(token())).toEqual(OWNER);
  });

  it.each([[null], [7], [{}], ['__proto__'], ['x'.repeat(5_000)]])('have no id %j', async (kid) => {
    expect(await tokens.verify(token(kid, stranger))).toEqual(UNKNOWN);
    expect(requests).toBe(1);
  });

  it('of a kind that is not known are left out', async () => {
    answer = async () => [{ kid: 'odd', kty: 'lattice' }, { kty: 'RSA' }, served('key_1', first)];

    expect(await tokens.verify(token('odd'))).toEqual(UNKNOWN);
    expect(await tokens.verify(token())).toEqual(OWNER);
  });
});
