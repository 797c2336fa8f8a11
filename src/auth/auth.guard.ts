import { type CanActivate, type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request } from 'express';
import { type RawBuilder, sql } from 'kysely';
import { ACCESS, type CallerKind } from './access.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Database, now } from '../database/database.js';
import { IdentityTokens, isIdentityToken } from './identity-tokens.js';
import { OwnerTokens } from './owner-tokens.js';
import type { Principal } from './principal.js';
import { selectSessions } from './selected-session.js';
import { type Refused, refused, TokenRefusal } from './token-refusal.js';
import { hashToken, isEventTokenOf, isSessionToken, readEventToken } from './session-tokens.js';

/** The use of a session's token is noted no more often. */
const NOTED_EVERY_SECONDS = 3_600;
const DAY_SECONDS = 86_400;

const ago = (seconds: number): RawBuilder<string> => sql`${now} - ${seconds} * interval '1 second'`;

/** Who calls; or why the credential is none, `none` where there was none. */
type Identified = { principal: Principal } | Refused;

/** Identifies the caller and refuses the kinds that the route is not for. The services check what belongs to whom. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly ownerTokens: OwnerTokens,
    private readonly identityTokens: IdentityTokens,
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Pick<Config, 'SESSION_TOKEN_TTL_DAYS'>,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const kinds = this.reflector.getAllAndOverride<CallerKind[] | undefined>(ACCESS, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (!kinds) throw new Error(`${context.getClass().name}.${context.getHandler().name} has no @Access`);
    if (kinds.includes('public')) return true;
    const request = context.switchToHttp().getRequest<Request>();
    const identified = await this.identify(request, kinds.includes('watcher'));
    if (!('principal' in identified)) throw refused(identified);
    const { principal } = identified;
    if (!kinds.includes(principal.kind)) {
      throw refused({ refusal: TokenRefusal.NotForThis, said: { kind: principal.kind } });
    }
    request.principal = principal;
    return true;
  }

  private async identify({ headers, query }: Request, allowsEventToken: boolean): Promise<Identified> {
    const { authorization } = headers;
    if (authorization === undefined) {
      const { token } = query;
      return allowsEventToken && typeof token === 'string' ? this.watcherOf(token) : { refusal: 'none' };
    }
    const bearer = /^Bearer +([^\s]+)$/i.exec(authorization)?.[1];
    if (bearer === undefined) return { refusal: /^Bearer\b/i.test(authorization) ? 'not_bearer' : 'none' };
    if (isSessionToken(bearer)) return this.guestOf(bearer);
    if (isIdentityToken(bearer, null)) return this.personOf(bearer);
    const verified = await this.ownerTokens.verify(bearer);
    return 'refusal' in verified
      ? verified
      : { principal: { kind: 'owner', clerkUserId: verified.clerkUserId } };
  }

  private async personOf(token: string): Promise<Identified> {
    const verified = await this.identityTokens.verify(token);
    return 'refusal' in verified ? verified : { principal: { kind: 'person', ...verified } };
  }

  private async guestOf(token: string): Promise<Identified> {
    const hash = hashToken(token);
    const session = await this.database.read((db) =>
      selectSessions(db)
        .innerJoin('session_tokens as t', 't.session_id', 's.id')
        .select('c.allowed_origins')
        .select((eb) => eb('t.used_at', '<', ago(NOTED_EVERY_SECONDS)).as('is_to_be_noted'))
        .where('t.hash', '=', hash)
        .where('t.used_at', '>', ago(this.config.SESSION_TOKEN_TTL_DAYS * DAY_SECONDS))
        .executeTakeFirst(),
    );
    if (session?.is_to_be_noted === true) this.noteUse(hash);
    return session
      ? { principal: { kind: 'guest', session, allowedOrigins: session.allowed_origins } }
      : { refusal: TokenRefusal.NotForThis, said: { kind: 'guest' } };
  }

  /** Beside the request, which does not depend on it: what fails is noted with the next one. */
  private noteUse(hash: string): void {
    this.database
      .write((db) =>
        db
          .updateTable('session_tokens')
          .set({ used_at: now })
          .where('hash', '=', hash)
          .where('used_at', '<', ago(NOTED_EVERY_SECONDS))
          .execute(),
      )
      .catch(() => undefined);
  }

  private async watcherOf(token: string): Promise<Identified> {
    const claimed = readEventToken(token);
    if (!claimed) return { refusal: TokenRefusal.Malformed, said: { kind: 'watcher' } };
    const session = await this.database.read((db) =>
      selectSessions(db).select('c.allowed_origins').where('s.id', '=', claimed.sessionId).executeTakeFirst(),
    );
    return session && isEventTokenOf(token, session.event_token_key)
      ? { principal: { kind: 'watcher', session, allowedOrigins: session.allowed_origins } }
      : { refusal: TokenRefusal.NotForThis, said: { kind: 'watcher' } };
  }
}
