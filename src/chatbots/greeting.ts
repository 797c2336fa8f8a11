import { MAX_GREETING_LENGTH } from './chatbot.dto.js';

/** Longest name that a greeting repeats, in code points: what is longer is cut. */
const MAX_GREETED_NAME = 40;

/** A greeting with a short form of the guest's name in it, nothing where there is none; no longer than a greeting may be. */
export function greet(greeting: string, guestName: string | null): string {
  const letters = Array.from(guestName ?? '');
  const isLong = letters.length > MAX_GREETED_NAME;
  const short = isLong ? `${letters.slice(0, MAX_GREETED_NAME).join('').trim()}…` : letters.join('');
  const filled = Array.from(greeting.replaceAll('{name}', () => short));
  return filled.slice(0, MAX_GREETING_LENGTH).join('');
}
