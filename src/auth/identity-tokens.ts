import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JWTPayload } from 'jose';
import { isEmail } from 'class-validator';
import { Database, isoTimeOrNull } from '../database/database.js';
import { NOT_IN_NAMES } from '../runtime/names.js';
import { TokenRefusal } from './token-refusal.js';

/**
 * Tokens by which an owner's own server vouches for who a guest is: JWTs, signed HS256 with a secret that the chatbot shares
 * with that server alone.
 */

/** 256 bits. */
const SECRET_BYTES = 32;
const SECRET_PREFIX = 'ais_';
/** The furthest ahead that a token may end: one that is good for ever is a password. */
const MAX_LIFETIME_SECONDS = 30 * 86_400;
/** How far the clocks of the owner's server and of this machine may differ. */
const CLOCK_SKEW_SECONDS = 5;
const MAX_TOKEN_LENGTH = 8_192;
const MAX_LENGTH = 255;

export const createIdentitySecret = (): string =>
  SECRET_PREFIX + randomBytes(SECRET_BYTES).toString('base64url');

/** A person whom an owner has vouched for. */
export interface Person {
  chatbotId: string;
  /** The owner's own id of the person. */
  externalId: string;
  name: string | null;
  email: string | null;
}

/** A person, or why the token names none. */
export type VerifiedPerson =
  { person: Person; allowedOrigins: readonly string[] } | { refusal: TokenRefusal };

/**
 * Whether a token is to be judged as one of these: any other may be of somebody else's making, sent along to every server.
 *
 * @param chatbotId whom it would be for
 */
export function isIdentityToken(token: string, chatbotId: string | null): boolean {
  const claims = claimsOf(token);
  if (!claims) return false;
  return claims.alg === 'HS256' || (chatbotId !== null && claims.audiences.includes(chatbotId));
}

@Injectable()
export class IdentityTokens {
  constructor(private readonly database: Database) {}

  /** @param chatbotId whom it has to be for; undefined: whomever it says */
  async verify(token: string, chatbotId?: string): Promise<VerifiedPerson> {
    const claimed = claimsOf(token);
    if (!claimed) return { refusal: TokenRefusal.Malformed };
    if (claimed.alg !== 'HS256') return { refusal: TokenRefusal.Algorithm };
    const audience = chatbotId ?? claimed.audiences.find((each) => UUID.test(each));
    if (audience === undefined || !claimed.audiences.includes(audience)) {
      return { refusal: TokenRefusal.NotForThis };
    }
    const chatbot = await this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .select(['allowed_origins', 'identity_secret', 'previous_identity_secret'])
        .select('previous_identity_secret_until as previous_until')
        .where('id', '=', audience)
        .executeTakeFirst(),
    );
    if (!chatbot) return { refusal: TokenRefusal.NotForThis };
    const previousUntil = isoTimeOrNull(chatbot.previous_until);
    const isPreviousGood = previousUntil !== null && Date.parse(previousUntil) > Date.now();
    const secrets = [chatbot.identity_secret, isPreviousGood ? chatbot.previous_identity_secret : null];
    let refusal: TokenRefusal = TokenRefusal.UnknownKey;
    for (const secret of secrets) {
      if (secret === null) continue;
      const verified = await verifyBy(secret, token, audience);
      if (!('refusal' in verified)) return { person: verified, allowedOrigins: chatbot.allowed_origins };
      ({ refusal } = verified);
      if (refusal !== TokenRefusal.Signature) break; // it is this one's, and no good for another reason
    }
    return { refusal };
  }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What a token says of itself, unverified; null where it is no JWT. */
function claimsOf(token: string): { alg: string | undefined; audiences: string[] } | null {
  if (token.length > MAX_TOKEN_LENGTH) return null;
  try {
    const { alg } = decodeProtectedHeader(token);
    const audiences = [decodeJwt(token).aud ?? []].flat().filter((each) => typeof each === 'string');
    return { alg, audiences };
  } catch {
    return null;
  }
}

async function verifyBy(
  secret: string,
  token: string,
  chatbotId: string,
): Promise<Person | { refusal: TokenRefusal }> {
  try {
    const { payload } = await jwtVerify(token, new TextEncoder().encode(secret), {
      algorithms: ['HS256'],
      audience: chatbotId,
      requiredClaims: ['sub', 'exp'],
      clockTolerance: CLOCK_SKEW_SECONDS,
    });
    return personOf(payload, chatbotId) ?? { refusal: TokenRefusal.Subject };
  } catch (error) {
    return { refusal: refusalOf(error) };
  }
}

/** Null where a claim is none that a guest may have. */
function personOf({ sub, exp, name, email }: JWTPayload, chatbotId: string): Person | null {
  const isTooLong = (exp ?? 0) > Date.now() / 1000 + MAX_LIFETIME_SECONDS + CLOCK_SKEW_SECONDS;
  if (isTooLong || !isLine(sub)) return null;
  const given = { name: optional(name), email: optional(email) };
  if (given.name !== null && !isLine(given.name)) return null;
  if (given.email !== null && (!isLine(given.email) || !isEmail(given.email))) return null;
  return {
    chatbotId,
    externalId: sub,
    name: given.name,
    email: given.email,
  };
}

/** Left out, null and a blank are the same. */
const optional = (value: unknown): unknown => {
  const text = typeof value === 'string' ? value.trim() : (value ?? null);
  return text === '' ? null : text;
};

const isLine = (value: unknown): value is string =>
  typeof value === 'string' &&
  value.trim() !== '' &&
  [...value].length <= MAX_LENGTH &&
  value.isWellFormed() &&
  !NOT_IN_NAMES.test(value);

function refusalOf(error: unknown): TokenRefusal {
  if (error instanceof errors.JWTExpired) return TokenRefusal.Expired;
  if (error instanceof errors.JWSSignatureVerificationFailed) return TokenRefusal.Signature;
  if (error instanceof errors.JWTClaimValidationFailed) {
    return error.claim === 'nbf' ? TokenRefusal.NotYetValid : TokenRefusal.Subject;
  }
  return TokenRefusal.Malformed;
}
