import type { NextFunction, Request, Response } from 'express';
import { allowanceListener } from '../limits/allowance.js';

const HEADERS = {
  'RateLimit-Limit': 'The most that the limit which is nearest allows in its window.',
  'RateLimit-Remaining': 'How much of it is left.',
  'RateLimit-Reset':
    'When its window is over, in seconds; of places that are in use (streams, long polls), when to ask again.',
};

export const ALLOWANCE_HEADERS = Object.keys(HEADERS);

/** Their documentation, for the answers of routes that are limited. */
export const allowanceHeaders = Object.fromEntries(
  Object.entries(HEADERS).map(([name, description]) => [
    name,
    { description, schema: { type: 'integer' as const, minimum: 0 } },
  ]),
);

/** Middleware: tells the client what is left of the limit that its request is nearest to, where it is counted. */
export function tellAllowance(_request: Request, response: Response, next: NextFunction): void {
  let least = Infinity;
  allowanceListener.run(({ limit, remaining, resetSeconds }) => {
    if (response.headersSent || remaining > least) return;
    least = remaining;
    response.setHeader('RateLimit-Limit', limit);
    response.setHeader('RateLimit-Remaining', remaining);
    response.setHeader('RateLimit-Reset', resetSeconds);
  }, next);
}
