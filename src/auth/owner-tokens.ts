import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { createClerkClient, verifyToken } from '@clerk/backend';
import { TokenVerificationError, TokenVerificationErrorReason as Reason } from '@clerk/backend/errors';
import { TokenType, verifyMachineAuthToken } from '@clerk/backend/internal';
import { decodeJwt } from '@clerk/backend/jwt';
import { ownFile } from '../runtime/own-file.js';
import type { Config } from '../config/env.js';
import { AcceptedToken } from '../config/setting-types.js';
import { NoAnswerError, within } from '../runtime/within.js';
import { ClerkKeys, NoKeysError } from './clerk-keys.js';
import { TokenRefusal } from './token-refusal.js';

/** How far the clocks of Clerk and of this machine may differ. */
const CLOCK_SKEW_MS = 5_000;
/** A session JWT has some hundred bytes; what is far longer is not worth parsing. */
const MAX_TOKEN_LENGTH = 8_192;
/** Without CLERK_JWT_KEY the keys come over the network: the longest wait for them. */
const KEYS_TIMEOUT_MS = 5_000;
const LOCAL_TOKEN_LIFETIME_SECONDS = 30 * 86_400;

/** Any of which a token may be signed by, or those that Clerk tells. */
type Keys = readonly string[] | ClerkKeys;

/** An owner, or why the token names none. */
export type Verified =
  | { clerkUserId: string }
  | {
      refusal: TokenRefusal;
      /** What the token says where that is why, for the log; a stranger's text. */
      said?: Record<string, string>;
    };

/** What an API key, a machine's or an application's token begins with where it is no JWT. */
const OPAQUE = /^(?:ak|mt|oat)_/;
/** RFC 9068. */
const OAUTH_TYPES = ['at+jwt', 'application/at+jwt'];
/** Of machines, in the subject, and in the header of newer tokens. */
const MACHINE_SUBJECT = 'mch_';
const MACHINE_CATEGORY = 'cl_B7d4PD333AAA';

const REFUSALS: Record<string, TokenRefusal> = {
  [Reason.TokenExpired]: TokenRefusal.Expired,
  [Reason.TokenNotActiveYet]: TokenRefusal.NotYetValid,
  [Reason.TokenIatInTheFuture]: TokenRefusal.NotYetValid,
  [Reason.TokenInvalidSignature]: TokenRefusal.Signature,
  [Reason.TokenVerificationFailed]: TokenRefusal.Signature,
  [Reason.TokenInvalidAlgorithm]: TokenRefusal.Algorithm,
  [Reason.TokenInvalidIssuer]: TokenRefusal.Issuer,
  [Reason.TokenInvalidAuthorizedParties]: TokenRefusal.AuthorizedParty,
  [Reason.JWKKidMismatch]: TokenRefusal.UnknownKey,
  [Reason.RemoteJWKMissing]: TokenRefusal.NoKeys,
  [Reason.RemoteJWKFailedToLoad]: TokenRefusal.NoKeys,
  [Reason.RemoteJWKInvalid]: TokenRefusal.NoKeys,
  [Reason.InvalidSecretKey]: TokenRefusal.NoKeys,
  [Reason.JWKFailedToResolve]: TokenRefusal.NoKeys,
  [Reason.LocalJWKMissing]: TokenRefusal.NoKeys,
};

/**
 * Verifies Clerk session JWTs. With Clerk configured its key is used; otherwise, never in production, a key pair
 * of this clone's own, for which `npm run token` signs. One verification path, two keys.
 */
@Injectable()
export class OwnerTokens {
  private readonly keys: Keys;
  private readonly authorizedParties: string[];
  private readonly acceptedTokens: readonly AcceptedToken[];

  constructor(
    config: Pick<
      Config,
      | 'CLERK_JWT_KEY'
      | 'CLERK_SECRET_KEY'
      | 'CLERK_AUTHORIZED_PARTIES'
      | 'CLERK_ACCEPTED_TOKENS'
      | 'isProduction'
      | 'stateDir'
    >,
    clerkKeys?: ClerkKeys,
  ) {
    if (config.CLERK_JWT_KEY !== undefined) {
      this.keys = config.CLERK_JWT_KEY;
    } else if (config.CLERK_SECRET_KEY !== undefined) {
      this.keys = clerkKeys ?? keysOfClerk(config.CLERK_SECRET_KEY);
    } else {
      if (config.isProduction) throw new Error('local owner tokens are not for production');
      this.keys = [localPublicKey(config.stateDir)];
    }
    this.authorizedParties = config.CLERK_AUTHORIZED_PARTIES;
    this.acceptedTokens = config.CLERK_ACCEPTED_TOKENS;
  }

  async verify(token: string): Promise<Verified> {
    if (token.length > MAX_TOKEN_LENGTH) return { refusal: TokenRefusal.Malformed };
    if (OPAQUE.test(token)) return { refusal: TokenRefusal.Kind, said: { kind: 'opaque' } };
    const jwt = read(token);
    if (!jwt || !isPlain(jwt)) return { refusal: TokenRefusal.Malformed };
    const kind = kindOf(jwt);
    if (!this.acceptedTokens.includes(kind)) return { refusal: TokenRefusal.Kind, said: { kind } };
    try {
      const { sub, sts } = await within(KEYS_TIMEOUT_MS, this.claimsOf(token, jwt, kind));
      // Newer tokens say what the session is; others are made for active ones alone.
      if (sts !== undefined && sts !== 'active') {
        return { refusal: TokenRefusal.SessionPending, said: { sts: String(sts) } };
      }
      return isUserId(sub) ? { clerkUserId: sub } : { refusal: TokenRefusal.Subject };
    } catch (error) {
      const refusal = refusalOf(error);
      const said = (name: 'azp' | 'iss'): Record<string, string> => ({ [name]: String(jwt.payload[name]) });
      if (refusal === TokenRefusal.AuthorizedParty) return { refusal, said: said('azp') };
      if (refusal === TokenRefusal.Issuer) return { refusal, said: said('iss') };
      return { refusal };
    }
  }

  /** By whichever of the keys has signed it. */
  private async claimsOf(
    token: string,
    { header }: UnverifiedJwt,
    kind: AcceptedToken,
  ): Promise<{ sub?: unknown; sts?: unknown }> {
    if (this.keys instanceof ClerkKeys) {
      const key = await this.keys.find(String(header['kid']));
      if (key === null) throw new UnknownKeyError();
      return this.claimsBy(key, token, kind);
    }
    let refusal: unknown;
    for (const key of this.keys) {
      try {
        return await this.claimsBy(key, token, kind);
      } catch (error) {
        if (refusalOf(error) !== TokenRefusal.Signature) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }

  private async claimsBy(
    jwtKey: string,
    token: string,
    kind: AcceptedToken,
  ): Promise<{ sub?: unknown; sts?: unknown }> {
    const options = { jwtKey, clockSkewInMs: CLOCK_SKEW_MS };
    if (kind === AcceptedToken.Session) {
      const { authorizedParties } = this;
      return verifyToken(token, { ...options, ...(authorizedParties.length > 0 && { authorizedParties }) });
    }
    const { data, errors, tokenType } = await verifyMachineAuthToken(token, options);
    if (errors) throw errors[0];
    const isAsked = tokenType === (kind === AcceptedToken.OAuth ? TokenType.OAuthToken : TokenType.M2MToken);
    return { sub: isAsked ? data.subject : undefined };
  }
}

class UnknownKeyError extends Error {}

/** A JWT as it came, of which nothing is sure: not even that its parts are objects. */
interface UnverifiedJwt {
  header: Record<string, unknown>;
  payload: Record<string, unknown>;
}

function read(token: string): UnverifiedJwt | null {
  try {
    const { header, payload } = decodeJwt(token) as unknown as UnverifiedJwt;
    return { header: { ...header }, payload: { ...payload } };
  } catch {
    return null;
  }
}

/** By what it says of itself: the signature holds for all kinds. */
function kindOf({ header, payload: { sub } }: UnverifiedJwt): AcceptedToken {
  if (header['cat'] === MACHINE_CATEGORY || (typeof sub === 'string' && sub.startsWith(MACHINE_SUBJECT))) {
    return AcceptedToken.Machine;
  }
  return OAUTH_TYPES.includes(String(header['typ']).toLowerCase())
    ? AcceptedToken.OAuth
    : AcceptedToken.Session;
}

/**
 * Whether its times are times, and it asks for no extension: none is known here, and RFC 7515 wants a token refused whose
 * `crit` is not understood.
 */
const isPlain = ({ header, payload }: UnverifiedJwt): boolean =>
  !('crit' in header) &&
  ['exp', 'nbf', 'iat'].every((name) => payload[name] === undefined || Number.isFinite(payload[name]));

/** Clerk's ids have no spaces; one with a line break would be another line of a log. */
const isUserId = (sub: unknown): sub is string =>
  typeof sub === 'string' && sub !== '' && sub.length <= 255 && !/[\s\p{Cc}]/u.test(sub);

function refusalOf(error: unknown): TokenRefusal {
  if (error instanceof NoAnswerError || error instanceof NoKeysError) return TokenRefusal.NoKeys;
  if (error instanceof UnknownKeyError) return TokenRefusal.UnknownKey;
  const reason = error instanceof TokenVerificationError ? error.reason : undefined;
  return REFUSALS[reason ?? ''] ?? TokenRefusal.Malformed;
}

/** What Clerk serves to who has the secret key. */
function keysOfClerk(secretKey: string): ClerkKeys {
  const { jwks } = createClerkClient({ secretKey, telemetry: { disabled: true } });
  return new ClerkKeys(async () => (await jwks.getJwks()).keys ?? []);
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
