/** A random id. `crypto.randomUUID` is only there in secure contexts, and a chat may be on a plain-http page. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
