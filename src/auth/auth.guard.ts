import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request } from 'express';
import { ACCESS, type CallerKind } from './access.js';
import { AppError } from '../runtime/app-error.js';
import { Database } from '../database/database.js';
import { OwnerTokens } from './owner-tokens.js';
import type { Principal } from './principal.js';
import { hashToken, isEventTokenOf, isSessionToken, readEventToken } from './session-tokens.js';

const unauthorized = (): AppError =>
  new AppError('unauthorized', 'Send a valid credential of the right kind in the Authorization header.');

/** Identifies the caller and refuses the kinds that the route is not for. The services check what belongs to whom. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly ownerTokens: OwnerTokens,
    private readonly database: Database,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const kinds = this.reflector.getAllAndOverride<CallerKind[] | undefined>(ACCESS, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (!kinds) throw new Error(`${context.getClass().name}.${context.getHandler().name} has no @Access`);
    if (kinds.includes('public')) return true;
    const request = context.switchToHttp().getRequest<Request>();
    const principal = await this.identify(request, kinds.includes('watcher'));
    if (!principal || !kinds.includes(principal.kind)) throw unauthorized();
    request.principal = principal;
    return true;
  }

  private async identify(request: Request, allowsEventToken: boolean): Promise<Principal | null> {
    const bearer = /^Bearer +([^\s]+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (bearer === undefined) {
      const { token } = request.query;
      return allowsEventToken && request.headers.authorization === undefined && typeof token === 'string'
        ? this.watcherOf(token)
        : null;
    }
    if (isSessionToken(bearer)) return this.guestOf(bearer);
    const clerkUserId = await this.ownerTokens.verify(bearer);
    return clerkUserId === null ? null : { kind: 'owner', clerkUserId };
  }

  private async guestOf(token: string): Promise<Principal | null> {
    const session = await this.database.read((db) =>
      db
        .selectFrom('chat_sessions')
        .select('id')
        .where('token_hash', '=', hashToken(token))
        .executeTakeFirst(),
    );
    return session ? { kind: 'guest', sessionId: session.id } : null;
  }

  private async watcherOf(token: string): Promise<Principal | null> {
    const claimed = readEventToken(token);
    if (!claimed) return null;
    const session = await this.database.read((db) =>
      db
        .selectFrom('chat_sessions')
        .select('event_token_key')
        .where('id', '=', claimed.sessionId)
        .executeTakeFirst(),
    );
    return session && isEventTokenOf(token, session.event_token_key)
      ? { kind: 'watcher', sessionId: claimed.sessionId }
      : null;
  }
}
