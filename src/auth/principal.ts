import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';
import type { Person } from './identity-tokens.js';
import type { SelectedSession } from './selected-session.js';

/** Who is calling, as far as a route cares; of whoever has a session also whose pages its chatbot may be used on. */
export type Principal =
  | { kind: 'owner'; clerkUserId: string }
  | { kind: 'guest'; session: SelectedSession; allowedOrigins: readonly string[] }
  /** A person whom the owner of a chatbot has vouched for. */
  | { kind: 'person'; person: Person; allowedOrigins: readonly string[] }
  /** Whoever holds an event token: may follow one session, and nothing else. */
  | { kind: 'watcher'; session: SelectedSession; allowedOrigins: readonly string[] };

declare module 'express-serve-static-core' {
  interface Request {
    principal?: Principal;
  }
}

/** The caller of a route that requires one. */
export const Caller = createParamDecorator((_: unknown, context: ExecutionContext): Principal => {
  const { principal } = context.switchToHttp().getRequest<Request>();
  if (!principal) throw new Error('a route without @Access has no caller');
  return principal;
});

/** The Clerk user id of the caller of a route for owners. */
export const Owner = createParamDecorator((_: unknown, context: ExecutionContext): string => {
  const { principal } = context.switchToHttp().getRequest<Request>();
  if (principal?.kind !== 'owner') throw new Error('a route that is not for owners alone has no owner');
  return principal.clerkUserId;
});

/** The caller of a route for people whom an owner has vouched for. */
export const VouchedFor = createParamDecorator((_: unknown, context: ExecutionContext): Person => {
  const { principal } = context.switchToHttp().getRequest<Request>();
  if (principal?.kind !== 'person')
    throw new Error('a route that is not for known people alone has no person');
  return principal.person;
});
