import { SignJWT } from 'jose';

/** Vouches for a person as an owner's server does; good for an hour where the claims say nothing else. */
export function vouch(
  secret: string,
  chatbotId: string,
  claims: Record<string, unknown> = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ sub: 'person-1', aud: chatbotId, exp: now + 3_600, ...claims })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(new TextEncoder().encode(secret));
}
