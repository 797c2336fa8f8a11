import { type CanActivate, type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request } from 'express';
import { ACCESS, type CallerKind } from '../auth/access.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Database } from '../database/database.js';
import { AppError } from '../runtime/app-error.js';
import { isAmong } from '../runtime/origins.js';
import { isId } from './id-param.js';

/**
 * Lets pages do what their origin may: the api's own anything, those of `CORS_ORIGINS` what owners may, those of a
 * chatbot's `allowedOrigins` what its guests may. Who sends no `Origin` is no page, and left to tokens and limits.
 */
@Injectable()
export class OriginGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Pick<Config, 'CORS_ORIGINS' | 'PUBLIC_URL'>,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<Request>();
    const { origin } = request.headers;
    if (origin === undefined || isOwnOrigin(request, origin, this.config)) return true;
    const kinds = this.reflector.getAllAndOverride<CallerKind[]>(ACCESS, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (await this.isAllowed(request, origin, kinds)) return true;
    throw new AppError(
      'origin_not_allowed',
      'Pages of this origin may not do this. An owner adds it to the allowedOrigins of the chatbot; for owners, an operator to CORS_ORIGINS.',
    );
  }

  private async isAllowed(
    { principal, params }: Request,
    origin: string,
    kinds: readonly CallerKind[],
  ): Promise<boolean> {
    if (principal?.kind === 'owner') return isForOwners(origin, this.config);
    if (principal) return isForGuests(origin, principal.allowedOrigins);
    // Of the public routes, those of a chatbot name it; what there is not, the route finds missing.
    if (!kinds.includes('public') || !isId(params['id'])) return true;
    const chatbot = await this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .select('allowed_origins')
        .where('id', '=', String(params['id']))
        .executeTakeFirst(),
    );
    return isForGuests(origin, chatbot?.allowed_origins ?? []);
  }
}

/** Whether a page of the api's own asks, under the name that its visitors know it by. */
export function isOwnOrigin(
  { protocol, host }: Pick<Request, 'protocol' | 'host'>,
  origin: string,
  { PUBLIC_URL }: Pick<Config, 'PUBLIC_URL'>,
): boolean {
  return URL.parse(PUBLIC_URL ?? `${protocol}://${host}`)?.origin === origin;
}

export const isForOwners = (origin: string, { CORS_ORIGINS }: Pick<Config, 'CORS_ORIGINS'>): boolean =>
  CORS_ORIGINS.includes('*') || isAmong(CORS_ORIGINS, origin);

const isForGuests = (origin: string, allowedOrigins: readonly string[]): boolean =>
  allowedOrigins.length === 0 || isAmong(allowedOrigins, origin);
