import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { verifyToken } from '@clerk/backend';
import { ownFile } from '../runtime/own-file.js';
import type { Config } from '../config/env.js';
import { within } from '../runtime/within.js';

/** How far the clocks of Clerk and of this machine may differ. */
const CLOCK_SKEW_MS = 5_000;
/** A session JWT has some hundred bytes; what is far longer is not worth parsing. */
const MAX_TOKEN_LENGTH = 8_192;
/** Without CLERK_JWT_KEY the keys come over the network: the longest wait for them. */
const KEYS_TIMEOUT_MS = 5_000;
const LOCAL_TOKEN_LIFETIME_SECONDS = 30 * 86_400;

type Keys = { jwtKey: string } | { secretKey: string };

/**
 * Verifies Clerk session JWTs. With Clerk configured its key is used; otherwise, never in production, a key pair
 * of this clone's own, for which `npm run token` signs. One verification path, two keys.
 */
@Injectable()
export class OwnerTokens {
  private readonly keys: Keys;
  private readonly authorizedParties: string[];

  constructor(
    config: Pick<
      Config,
      'CLERK_JWT_KEY' | 'CLERK_SECRET_KEY' | 'CLERK_AUTHORIZED_PARTIES' | 'isProduction' | 'stateDir'
    >,
  ) {
    if (config.CLERK_JWT_KEY !== undefined) {
      // Hosts that keep a variable on one line write its line breaks as \n.
      this.keys = { jwtKey: config.CLERK_JWT_KEY.replaceAll('\\n', '\n') };
    } else if (config.CLERK_SECRET_KEY !== undefined) {
      this.keys = { secretKey: config.CLERK_SECRET_KEY };
    } else {
      if (config.isProduction) throw new Error('local owner tokens are not for production');
      this.keys = { jwtKey: localPublicKey(config.stateDir) };
    }
    this.authorizedParties = config.CLERK_AUTHORIZED_PARTIES;
  }

  /** @returns the Clerk user id, or null where the token is not good */
  async verify(token: string): Promise<string | null> {
    if (token.length > MAX_TOKEN_LENGTH) return null;
    try {
      const claims = await within(
        KEYS_TIMEOUT_MS,
        verifyToken(token, {
          ...this.keys,
          clockSkewInMs: CLOCK_SKEW_MS,
          ...(this.authorizedParties.length > 0 && { authorizedParties: this.authorizedParties }),
        }),
      );
      const { sub } = claims;
      return typeof sub === 'string' && sub !== '' && sub.length <= 255 && !sub.includes('\0') ? sub : null;
    } catch {
      return null; // without the reason, which would only help a forger
    }
  }
}

/** The clone's own key pair, made at first use. */
function localPrivateKey(stateDir: string): string {
  return ownFile(
    join(stateDir, 'owner-token-key.pem'),
    () =>
      generateKeyPairSync('rsa', {
        modulusLength: 2048,
        publicKeyEncoding: { type: 'spki', format: 'pem' },
        privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      }).privateKey,
  );
}

function localPublicKey(stateDir: string): string {
  return createPublicKey(createPrivateKey(localPrivateKey(stateDir))).export({
    type: 'spki',
    format: 'pem',
  }) as string;
}

/** Signs an owner token with the clone's own key, in the form of a Clerk session JWT. */
export function signLocalOwnerToken(stateDir: string, clerkUserId: string, now: number = Date.now()): string {
  const issuedAt = Math.floor(now / 1000);
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const unsigned = `${encode({ alg: 'RS256', typ: 'JWT', kid: 'local' })}.${encode({
    iss: 'https://assistly.local',
    sub: clerkUserId,
    iat: issuedAt,
    nbf: issuedAt,
    exp: issuedAt + LOCAL_TOKEN_LIFETIME_SECONDS,
  })}`;
  return `${unsigned}.${sign('RSA-SHA256', Buffer.from(unsigned), localPrivateKey(stateDir)).toString('base64url')}`;
}
