import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request } from 'express';
import { ACCESS, type CallerKind } from '../auth/access.js';
import { RateLimits, StoreDown } from '../limits/rate-limits.js';

/** Limits what an owner writes by the routes that are for owners alone. */
@Injectable()
export class OwnerWritesGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly limits: RateLimits,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const { method, principal } = context.switchToHttp().getRequest<Request>();
    const kinds = this.reflector.getAllAndOverride<CallerKind[]>(ACCESS, [
      context.getHandler(),
      context.getClass(),
    ]);
    const isForOwnersAlone = kinds.every((kind) => kind === 'owner');
    if (principal?.kind === 'owner' && isForOwnersAlone && method !== 'GET' && method !== 'HEAD') {
      await this.limits.take([{ limit: 'ownerWrites', of: principal.clerkUserId }], null, StoreDown.Allow);
    }
    return true;
  }
}
