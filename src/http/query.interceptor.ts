import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { DECORATORS } from '@nestjs/swagger';
import type { Request } from 'express';
import { ACCESS, type CallerKind } from '../auth/access.js';
import { AppError } from '../runtime/app-error.js';

/** At most so many are named. */
const MAX_ERRORS = 20;

/** What a misspelt name may take of an answer. */
const MAX_NAME_LENGTH = 100;

/**
 * Refuses parameters that a route of the API does not document, as unknown fields of a body are refused: a filter that is
 * misspelt, or that there is not, would be answered with everything. The routes of operators take any: load balancers and
 * monitors add their own.
 */
@Injectable()
export class QueryInterceptor implements NestInterceptor {
  constructor(private readonly reflector: Reflector) {}

  intercept(context: ExecutionContext, next: CallHandler): ReturnType<CallHandler['handle']> {
    const { path, query } = context.switchToHttp().getRequest<Request>();
    if (path.startsWith('/v1/')) this.check(context, Object.keys(query));
    return next.handle();
  }

  private check(context: ExecutionContext, names: string[]): void {
    const handler = context.getHandler();
    const parameters = this.reflector.get<{ in: string; name: string }[] | undefined>(
      DECORATORS.API_PARAMETERS,
      handler,
    );
    const known = new Set((parameters ?? []).flatMap((each) => (each.in === 'query' ? [each.name] : [])));
    // Where an event token is taken, it is a credential, which the document has apart from the parameters.
    if (this.reflector.get<CallerKind[]>(ACCESS, handler).includes('watcher')) known.add('token');
    const unknown = names.filter((name) => !known.has(name));
    if (unknown.length === 0) return;
    throw new AppError('invalid_request', 'The query has a parameter that this route does not know.', {
      errors: unknown.slice(0, MAX_ERRORS).map((name) => ({
        pointer: name.slice(0, MAX_NAME_LENGTH).toWellFormed(),
        message: 'is not a parameter of this route',
      })),
    });
  }
}
