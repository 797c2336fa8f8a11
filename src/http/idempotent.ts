import { createHash } from 'node:crypto';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Request, Response } from 'express';
import type { Principal } from '../auth/principal.js';
import type { IdempotentRequest } from '../database/idempotency.js';
import { AppError } from '../runtime/app-error.js';

/** The idempotency headers of requests and answers; database/idempotency.ts does the work. */
export const IDEMPOTENCY_HEADER = 'Idempotency-Key';
export const REPLAYED_HEADER = 'Idempotency-Replayed';

const KEY = /^[\x21-\x7e]{1,255}$/;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** JSON with its keys in order, so that the same fields in another order are the same body. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

const callerOf = (principal: Principal | undefined): string => {
  if (!principal) throw new Error('a route without a caller has no idempotency');
  switch (principal.kind) {
    case 'owner':
      return `owner:${principal.clerkUserId}`;
    case 'person':
      return `person:${principal.person.chatbotId}:${principal.person.externalId}`;
    default:
      return `${principal.kind}:${principal.session.id}`;
  }
};

/** The path as the route and its ids have it, however the client spelt it: letters, escapes and a slash at the end vary. */
const pathOf = ({ route, params }: Request): string =>
  (route as { path: string }).path.replaceAll(/:(\w+)/g, (_, name: string) =>
    String(params[name]).toLowerCase(),
  );

/** The request's idempotency, or null where it carries no key. The body is the one that was sent. */
export const Idempotent = createParamDecorator(
  (_: unknown, context: ExecutionContext): IdempotentRequest | null => {
    const request = context.switchToHttp().getRequest<Request>();
    const header = request.headers['idempotency-key'];
    if (header === undefined) return null;
    const bare = typeof header === 'string' ? header.replace(/^"(.*)"$/, '$1') : '';
    if (!KEY.test(bare)) {
      throw new AppError('invalid_request', 'The idempotency key is not usable.', {
        errors: [{ pointer: IDEMPOTENCY_HEADER, message: 'must be 1 to 255 visible ASCII characters' }],
      });
    }
    return {
      id: sha256([callerOf(request.principal), request.method, pathOf(request), bare].join('\0')),
      bodyHash: sha256(canonical(request.body ?? {})),
    };
  },
);

/** Marks an answer as that of an earlier request. */
export function markReplay(response: Response, isReplay: boolean): void {
  if (isReplay) response.setHeader(REPLAYED_HEADER, 'true');
}
