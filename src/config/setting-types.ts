import { createPublicKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { DatabaseUrlError, parseDatabaseUrl } from './database-url.js';

/** The types that settings have: how the text of a variable is read, and what is said of one that is wrong. */

export const blankToUndefined = (value: unknown): unknown =>
  typeof value === 'string' && value.trim() === '' ? undefined : value;

/** A variable that is set to nothing counts as not set, as in a copied `.env.example`. */
export const optional = <T extends z.ZodType>(type: T) => z.preprocess(blankToUndefined, type.optional());
/** Any text, without the blanks around it. */
export const text = () => optional(z.string().trim());
/** A name that a column of the database holds. */
export const modelName = () => z.string().trim().max(255, 'must be at most 255 characters long');
/** A whole number with its default and its limits, both included. */
export const integer = (fallback: number, min: number, max: number) =>
  z.preprocess(
    blankToUndefined,
    z.coerce
      .number({ error: 'must be a whole number' })
      .int('must be a whole number')
      .min(min, `must be at least ${min}`)
      .max(max, `must be at most ${max}`)
      .default(fallback),
  );

/** A whole number that may be left out. */
export const optionalInteger = (min: number, max: number) =>
  optional(
    z.coerce
      .number({ error: 'must be a whole number' })
      .int('must be a whole number')
      .min(min, `must be at least ${min}`)
      .max(max, `must be at most ${max}`),
  );

/** A setting that is on or off. */
export const flag = (fallback: boolean) =>
  z.preprocess(
    blankToUndefined,
    z
      .enum(['true', 'false'], { error: 'must be true or false' })
      .default(fallback ? 'true' : 'false')
      .transform((value) => value === 'true'),
  );

/** At most so many in a window, which begins with the first of them. */
export class Rate {
  constructor(
    readonly max: number,
    readonly windowSeconds: number,
  ) {}

  /** As it is set. */
  toString(): string {
    return `${this.max}/${this.windowSeconds}`;
  }
}

/** A {@link Rate}, written as `200/3600`. */
export const rate = (max: number, windowSeconds: number) =>
  z.preprocess(
    blankToUndefined,
    z
      .string()
      .trim()
      .regex(
        /^\d{1,8}\/\d{1,6}$/,
        'must be a number of at most 8 digits and a time of at most 6 in seconds, such as 200/3600',
      )
      .default(`${max}/${windowSeconds}`)
      .transform((value, context) => {
        const [most = 0, seconds = 0] = value.split('/').map(Number);
        if (most < 1 || seconds < 1) {
          context.addIssue({ code: 'custom', message: 'must be at least 1/1' });
        }
        return new Rate(most, seconds);
      }),
  );

/** A URL of one of these protocols. */
export const url = (...protocols: string[]) =>
  optional(
    z
      .string()
      .trim()
      .refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
        error: `must be a URL that starts with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}, special characters in it percent-encoded`,
      }),
  );
/** The URL of a PostgreSQL, which is read once more by whoever connects. */
export const databaseUrl = () =>
  optional(
    z
      .string()
      .trim()
      .superRefine((value, context) => {
        try {
          parseDatabaseUrl(value);
        } catch (error) {
          if (!(error instanceof DatabaseUrlError)) throw error;
          for (const message of error.problems) context.addIssue({ code: 'custom', message });
        }
      }),
  );
/** Where a model is. Its key is a setting of its own: credentials in the URL would be sent as Basic authentication. */
export const modelServerUrl = () =>
  url('http:', 'https:').refine(
    (value) => value === undefined || !URL.canParse(value) || isPlainAddress(new URL(value)),
    {
      error:
        'must hold no user, password or "#…": the key of the server is a setting of its own, and is sent to nobody else',
    },
  );
const isPlainAddress = ({ username, password, hash }: URL): boolean =>
  username === '' && password === '' && hash === '';
/** A secret that is sent in a header, which holds nothing but this; anything else would fail every call. */
export const key = () =>
  optional(
    z
      .string()
      .trim()
      .regex(/^[\x21-\x7e]+$/, 'must be visible ASCII characters without spaces, as a header can hold them'),
  );
/** Items separated by commas; none where it is not set. */
export const list = () =>
  z.preprocess(
    blankToUndefined,
    z
      .string()
      .default('')
      .transform((value) =>
        value
          .split(',')
          .map((item) => item.trim())
          .filter((item) => item !== ''),
      ),
  );

/** Whether each connection has a statement parsed once: `auto`, unless a pooler stands between. */
export const PreparedStatements = { Auto: 'auto', On: 'on', Off: 'off' } as const;
export type PreparedStatements = (typeof PreparedStatements)[keyof typeof PreparedStatements];

/** Kinds of Clerk's tokens that can be verified by a key alone, and may be an owner's. */
export const AcceptedToken = { Session: 'session', OAuth: 'oauth', Machine: 'machine' } as const;
export type AcceptedToken = (typeof AcceptedToken)[keyof typeof AcceptedToken];
/** Clerk's own words for them. */
const TOKEN_WORDS: Record<string, AcceptedToken> = {
  session_token: AcceptedToken.Session,
  oauth_token: AcceptedToken.OAuth,
  m2m_token: AcceptedToken.Machine,
};
/** Kinds of tokens, separated by commas; a person's session where it is not set. */
export const acceptedTokens = () =>
  list().transform((items, context) => {
    const kinds = items.map((item) => {
      const kind = Object.values(AcceptedToken).find((each) => each === item) ?? TOKEN_WORDS[item];
      if (kind === undefined) {
        const known = Object.values(AcceptedToken).join(', ');
        context.addIssue({ code: 'custom', message: `must be of ${known}, separated by commas` });
      }
      return kind ?? AcceptedToken.Session;
    });
    return kinds.length > 0 ? [...new Set(kinds)] : [AcceptedToken.Session];
  });

/** Servers, each `host:port`, separated by commas; none where it is not set. */
export const hosts = () =>
  list().transform((items, context) =>
    items.map((item) => {
      const [, host, port] = /^(\[[\da-fA-F:.]+\]|[\w.-]+):(\d{1,5})$/.exec(item) ?? [];
      if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
        context.addIssue({
          code: 'custom',
          message: 'must be servers as host:port, separated by commas, without a protocol or a password',
        });
        return z.NEVER;
      }
      return { host: host.replaceAll(/[[\]]/g, ''), port: Number(port) };
    }),
  );

/** Where one PEM public key ends and another may begin. */
const END_OF_KEY = '-----END PUBLIC KEY-----';
/** The weakest RSA keys that are still safe. */
const MIN_RSA_BITS = 2_048;

/**
 * PEM public keys as Clerk shows them, one after the other, also where line breaks became spaces or `\\n` on the way
 * through a host's settings page, or where only the middle was copied.
 */
export const publicKeys = () =>
  optional(
    z.string().transform((value, context) => {
      const texts = value
        .split(END_OF_KEY)
        .map((text) => text.replaceAll(/-----BEGIN PUBLIC KEY-----|\\n|\s/g, ''))
        .filter((text) => text !== '');
      const keys = texts.map(rsaKey);
      if (keys.length > 0 && keys.every((key) => key !== null)) {
        return keys.map((key) => key.export({ type: 'spki', format: 'pem' }) as string);
      }
      context.addIssue({
        code: 'custom',
        message: `must be the PEM public key of the Clerk instance ("-----BEGIN PUBLIC KEY-----" and so on), of ${MIN_RSA_BITS} bits or more; several one after the other while keys are changed`,
      });
      return z.NEVER;
    }),
  );

/** @returns null where the text is no RSA key, or one that could be broken */
function rsaKey(base64: string): KeyObject | null {
  try {
    const key = createPublicKey({ key: Buffer.from(base64, 'base64'), format: 'der', type: 'spki' });
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    return key.asymmetricKeyType === 'rsa' && bits >= MIN_RSA_BITS ? key : null;
  } catch {
    return null;
  }
}

/** `name=value`, separated by commas, each percent-encoded, as OpenTelemetry wants it. */
export const headers = () =>
  optional(
    z.string().transform((value, context) => {
      try {
        return Object.fromEntries(
          value
            .split(',')
            .filter((pair) => pair.trim() !== '')
            .map((pair) => {
              const [, name = '', text = ''] = /^\s*([\w.-]+)\s*=(.*)$/.exec(pair) ?? [];
              if (name === '') throw new Error('no header');
              return [name, decodeURIComponent(text.trim())];
            }),
        );
      } catch {
        context.addIssue({
          code: 'custom',
          message: 'must be pairs such as "api-key=secret,tenant=one", special characters percent-encoded',
        });
        return z.NEVER;
      }
    }),
  );
