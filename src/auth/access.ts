import { applyDecorators, SetMetadata } from '@nestjs/common';
import { ApiBearerAuth, ApiSecurity } from '@nestjs/swagger';
import type { Principal } from './principal.js';

export type CallerKind = Principal['kind'] | 'public';
/** Metadata key of {@link Access}. */
export const ACCESS = Symbol('ACCESS');

/**
 * Who may call a route. Every route names it: one that does not is closed to everybody.
 * `watcher` is the holder of an event token, in the query of the events route.
 */
export function Access(...kinds: [CallerKind, ...CallerKind[]]): MethodDecorator & ClassDecorator {
  return applyDecorators(
    SetMetadata(ACCESS, kinds),
    ...(kinds.includes('owner') ? [ApiBearerAuth('owner')] : []),
    ...(kinds.includes('guest') ? [ApiBearerAuth('guest')] : []),
    ...(kinds.includes('person') ? [ApiBearerAuth('identity')] : []),
    ...(kinds.includes('watcher') ? [ApiSecurity('eventToken')] : []),
  );
}
