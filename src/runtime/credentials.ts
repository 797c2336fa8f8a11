/** Things that look like a key or a token, whoever's they are: ours, Clerk's, a provider's, a webhook's, a JWT. */
const CREDENTIALS =
  /\b(?:sk|pk|ast|aet|ais|whsec)[-_][A-Za-z0-9._+/=-]{8,}|\b(?:ak|mt|oat)_[A-Za-z0-9._-]{8,}|\b(?:Bearer|Basic)\s+\S+|\beyJ[A-Za-z0-9._-]{20,}/gi;
/** Without the scheme, which would be looked for from every letter of a long word. */
const URL_CREDENTIALS = /:\/\/[^/@\s]+@/g;
const REDACTED = '[redacted]';
/** How often a text may be percent-encoded, one in the other. */
const MAX_ENCODINGS = 3;

/** A text for the log, without what looks like a credential. */
export const withoutCredentials = (text: string): string =>
  text.replaceAll(CREDENTIALS, REDACTED).replaceAll(URL_CREDENTIALS, `://${REDACTED}@`);

/** Whether a part of a URL or of a header holds one, however it is encoded. */
export function holdsCredential(text: string): boolean {
  let decoded = text;
  for (let n = 0; n <= MAX_ENCODINGS; n++) {
    if (withoutCredentials(decoded) !== decoded) return true;
    const before = decoded;
    try {
      decoded = decodeURIComponent(decoded.replaceAll('+', ' '));
    } catch {
      return false;
    }
    if (decoded === before) return false;
  }
  return false;
}
