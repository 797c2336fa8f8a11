import { createHash } from 'node:crypto';
import { isAmong } from '../runtime/origins.js';

/** What a Content Security Policy can name: a URL's host may hold `;` and `,`, which would end a directive, or the policy. */
const NAMEABLE = /^https?:\/\/(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*(?::\d+)?$/;

export interface PolicyParts {
  /** Of its chatbot's picture. */
  avatarUrl: string | null;
  /** The pages that may embed it; none: any. */
  allowedOrigins: readonly string[];
  /** The one style that stands in the page itself. */
  style: string;
}

/** The Content Security Policy of a guests' page: nothing from elsewhere but the picture, and who may embed it. */
export function contentPolicy({ avatarUrl, allowedOrigins, style }: PolicyParts): string {
  const pictures = avatarUrl === null ? '' : (URL.parse(avatarUrl)?.origin ?? '');
  const embedders =
    allowedOrigins.length === 0
      ? '*'
      : ["'self'", ...allowedOrigins.filter((origin) => NAMEABLE.test(origin))].join(' ');
  return [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' '${sha256(style)}'`,
    "connect-src 'self'",
    `img-src 'self'${NAMEABLE.test(pictures) ? ` ${pictures}` : ''}`,
    "base-uri 'none'",
    "form-action 'none'",
    `frame-ancestors ${embedders}`,
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ');
}

/** Whether the policy lets a page of this origin embed it: one that is listed with `http:`, with `https:` as well. */
export const mayEmbed = (allowedOrigins: readonly string[], origin: string): boolean =>
  allowedOrigins.length === 0 ||
  [origin, origin.replace(/^https:/, 'http:')].some((one) => isAmong(allowedOrigins, one));

/** Of the pages that say one sentence, or lead elsewhere. */
export const PLAIN_POLICY =
  "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *";

const sha256 = (text: string): string => `sha256-${createHash('sha256').update(text).digest('base64')}`;
