/**
 * Makes streamed text well-formed as it arrives, so that what was shown once never has to be changed: a
 * surrogate pair that a provider cut in two is joined again, a half without its partner becomes U+FFFD, and
 * NUL, which PostgreSQL's text cannot hold, is left out.
 */
export class WellFormedText {
  /** A high surrogate at the end of the last chunk, kept until its partner comes; otherwise empty. */
  private held = '';

  /** The part of the text that is final now; empty when nothing is. */
  push(chunk: string): string {
    const text = this.held + chunk.replaceAll('\0', '');
    const isPairOpen = isHighSurrogate(text.charCodeAt(text.length - 1));
    this.held = isPairOpen ? text.slice(-1) : '';
    return (isPairOpen ? text.slice(0, -1) : text).toWellFormed();
  }

  /** What was still held back when the text ended. */
  end(): string {
    const rest = this.held.toWellFormed();
    this.held = '';
    return rest;
  }
}

const isHighSurrogate = (codeUnit: number): boolean => codeUnit >= 0xd800 && codeUnit <= 0xdbff;
