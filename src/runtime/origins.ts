/**
 * Origins of web pages, as browsers send them and as lists name them: scheme, host and port, or `https://*.example.com`
 * for every depth below a name, and not the name itself, as in a Content Security Policy.
 */

const WILDCARD = /^https:\/\/\*\.(?=[^:/]+$)/;
const LABELS = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/;

/** Why a text in a list of origins could match none; null where it can match one. */
export function originProblem(text: string): string | null {
  const isWildcard = WILDCARD.test(text);
  const plain = isWildcard ? text.replace(WILDCARD, 'https://any.') : text;
  const parsed = URL.parse(plain);
  if (!parsed || !['http:', 'https:'].includes(parsed.protocol) || parsed.host.includes('*')) {
    return 'must be scheme, host and port, such as https://app.example.com, or https://*.example.com';
  }
  if (parsed.origin === plain) return null;
  const isOnlySpeltSo =
    parsed.pathname === '/' && parsed.search === '' && parsed.hash === '' && !plain.includes('@');
  return isOnlySpeltSo && !isWildcard
    ? `must be written as browsers send it: ${parsed.origin}`
    : 'must be scheme, host and port alone, such as https://app.example.com, or https://*.example.com';
}

/** @param origin as a browser sent it, or whoever says to be one */
export function isAmong(patterns: readonly string[], origin: string): boolean {
  return patterns.some((pattern) => {
    if (!WILDCARD.test(pattern)) return pattern === origin;
    const parent = pattern.slice('https://*'.length);
    return (
      origin.startsWith('https://') &&
      origin.endsWith(parent) &&
      LABELS.test(origin.slice('https://'.length, -parent.length))
    );
  });
}
