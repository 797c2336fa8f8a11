import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import type { Config } from '../config/env.js';
import { ownFile } from '../runtime/own-file.js';

/** Injection token of the {@link OperatorCredentials}; null where there is no operator. */
export const OPERATOR = Symbol('OPERATOR');

export interface OperatorCredentials {
  user: string;
  password: string;
}

/**
 * Who may operate the product. Without a configured password there is nobody in production, and what is for
 * operators only is off; elsewhere one is made once, and kept.
 */
export function operatorCredentials(config: Config): OperatorCredentials | null {
  if (config.BULL_BOARD_USER !== undefined && config.BULL_BOARD_PASSWORD !== undefined) {
    return { user: config.BULL_BOARD_USER, password: config.BULL_BOARD_PASSWORD };
  }
  if (config.isProduction) return null;
  return {
    user: 'operator',
    password: ownFile(join(config.stateDir, 'bull-board-password'), () =>
      randomBytes(18).toString('base64url'),
    ),
  };
}

/** Whether an `Authorization` header holds these credentials, as Basic authentication. */
export function isOperator(
  { user, password }: OperatorCredentials,
  authorization: string | undefined,
): boolean {
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization ?? '')?.[1] ?? '';
  return isSameSecret(Buffer.from(encoded, 'base64').toString(), `${user}:${password}`);
}

/** Compares in constant time; hashed first, so that the comparison tells nothing of the length either. */
export function isSameSecret(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
