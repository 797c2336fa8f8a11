import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';

/** Where a request comes from. */
export interface RequestOrigin {
  requestId: string;
  /** Of the caller, behind `TRUST_PROXY`. */
  address: string;
}

/** The {@link RequestOrigin} of a route's request. */
export const Origin = createParamDecorator((_: unknown, context: ExecutionContext): RequestOrigin => {
  const request = context.switchToHttp().getRequest<Request>();
  return { requestId: String(request.id), address: request.ip ?? '' };
});
