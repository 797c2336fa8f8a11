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

/** `error_description` of RFC 6750 for a token that was refused. */
export const describeRefusal = (refusal: TokenRefusal): string =>
  DESCRIPTIONS[refusal] ?? 'The token is not valid here';
