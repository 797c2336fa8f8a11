import { AppError, type Challenge } from '../runtime/app-error.js';

/** Why a credential of a caller was refused. */
export const TokenRefusal = {
  Malformed: 'malformed',
  Expired: 'expired',
  NotYetValid: 'not_yet_valid',
  Signature: 'signature',
  UnknownKey: 'unknown_key',
  Algorithm: 'algorithm',
  Issuer: 'issuer',
  /** It was made for an origin that is not among `CLERK_AUTHORIZED_PARTIES`. */
  AuthorizedParty: 'azp',
  /** A machine's, an application's, or one that only Clerk's own server can read. */
  Kind: 'kind',
  /** The session is not active: its person has still something to do before, such as choosing an organization. */
  SessionPending: 'session_pending',
  Subject: 'subject',
  /** The keys to verify by cannot be had. */
  NoKeys: 'no_keys',
  /** Good, and not of a kind that the route takes; or of a session that is gone. */
  NotForThis: 'not_for_this',
} as const;
export type TokenRefusal = (typeof TokenRefusal)[keyof typeof TokenRefusal];

/**
 * What a caller is told of it, beyond that the token is no good: what it can see in the token itself, and mend by getting
 * a new one. The rest would only help a forger. Characters as in RFC 6750: no quotes, no backslash.
 */
const DESCRIPTIONS: Partial<Record<TokenRefusal, string>> = {
  [TokenRefusal.Malformed]: 'The token is not one that this API knows',
  [TokenRefusal.Expired]: 'The token has expired',
  [TokenRefusal.NotYetValid]: 'The token is not valid yet',
  [TokenRefusal.SessionPending]: 'The session of the token is pending',
};

/** Longest of what a token says of itself that a log line shows. */
const MAX_SAID_LENGTH = 200;

/** A credential that is none. */
export interface Refused {
  /** `none`: there was no credential. */
  refusal: TokenRefusal | 'none' | 'not_bearer';
  /** What it says of itself, for operators. */
  said?: Record<string, string>;
}

/** Says to the caller what it may know, and the rest to operators. */
export function refused({ refusal, said }: Refused): AppError {
  const challenge = challengeOf(refusal);
  const shown = Object.entries(said ?? {}).map(([name, value]) => [name, readable(value)]);
  const refusedToken = challenge && { ...Object.fromEntries(shown), reason: refusal };
  return refusal === TokenRefusal.NoKeys
    ? new AppError('service_unavailable', 'The token cannot be verified for the moment. Try again.', {
        refusedToken,
        retryAfterSeconds: 1,
      })
    : new AppError('unauthorized', 'Send a valid credential of the right kind in the Authorization header.', {
        refusedToken,
        challenge,
      });
}

function challengeOf(refusal: TokenRefusal | 'none' | 'not_bearer'): Challenge | undefined {
  if (refusal === 'none') return undefined; // RFC 6750: who sent nothing is told nothing but the scheme
  if (refusal === 'not_bearer') {
    return {
      error: 'invalid_request',
      description: 'The header is not of the form: Bearer, a blank, the token',
    };
  }
  return { error: 'invalid_token', description: DESCRIPTIONS[refusal] ?? 'The token is not valid here' };
}

/** A stranger's text, for a line of the log. */
const readable = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, MAX_SAID_LENGTH);
