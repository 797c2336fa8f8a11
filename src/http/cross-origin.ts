import { Inject, Injectable, type OnModuleInit, RequestMethod } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import type { CorsOptions } from '@nestjs/common/interfaces/external/cors-options.interface.js';
import { DiscoveryService, MetadataScanner, Reflector } from '@nestjs/core';
import type { Request } from 'express';
import { ACCESS, type CallerKind } from '../auth/access.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { ALLOWANCE_HEADERS } from './allowance-headers.js';
import { isForOwners, isOwnOrigin } from './origin.guard.js';

/** Headers that a page from another origin may read. */
const EXPOSED_HEADERS = [
  'X-Request-Id',
  'X-Event-Cursor',
  'Location',
  'Retry-After',
  'Idempotency-Replayed',
  ...ALLOWANCE_HEADERS,
  // Of the AI SDK's routes.
  'X-Error-Code',
  'X-Vercel-AI-UI-Message-Stream',
  'X-Resumable-Stream-Id',
];
/** How long a browser may keep the answer to a preflight, in seconds. */
const PREFLIGHT_MAX_AGE_SECONDS = 600;

/**
 * What browsers are told of pages from other origins. It is told by the path alone, so that a preflight costs nothing:
 * any page may ask on the routes that guests use, and read why it is refused; the {@link OriginGuard} decides.
 */
@Injectable()
export class CrossOrigin implements OnModuleInit {
  private readonly guestPaths: RegExp[] = [];

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly reflector: Reflector,
    @Inject(CONFIG) private readonly config: Pick<Config, 'CORS_ORIGINS' | 'PUBLIC_URL'>,
  ) {}

  /** Finds the paths of the routes of /v1 that are not for owners alone. */
  onModuleInit(): void {
    for (const { metatype } of this.discovery.getControllers()) {
      if (typeof metatype !== 'function') continue;
      const prototype = metatype.prototype as Record<string, () => unknown>;
      for (const name of this.scanner.getAllMethodNames(prototype)) {
        const handler = prototype[name]!;
        if (this.reflector.get<RequestMethod | undefined>(METHOD_METADATA, handler) === undefined) continue;
        const kinds = this.reflector.getAllAndOverride<CallerKind[] | undefined>(ACCESS, [handler, metatype]);
        const path = [metatype, handler]
          .map((target) => this.reflector.get<string>(PATH_METADATA, target))
          .flatMap((part) => part.split('/'))
          .filter((segment) => segment !== '');
        if (path[0] !== 'v1' || kinds === undefined || kinds.every((kind) => kind === 'owner')) continue;
        const pattern = path.map((segment) => (segment.startsWith(':') ? '[^/]+' : segment));
        this.guestPaths.push(new RegExp(`^/${pattern.join('/')}/?$`, 'i')); // as lenient as the router
      }
    }
  }

  /** The options of a request, for whom `enableCors` asks. */
  readonly optionsOf = (request: Request, callback: (error: null, options: CorsOptions) => void): void => {
    const { origin } = request.headers;
    const isAllowed =
      origin !== undefined &&
      (this.guestPaths.some((path) => path.test(request.path)) ||
        isForOwners(origin, this.config) ||
        isOwnOrigin(request, origin, this.config));
    callback(null, {
      origin: isAllowed ? [origin] : [], // a list makes the answer vary by the origin, whether there is one or not
      exposedHeaders: EXPOSED_HEADERS,
      maxAge: PREFLIGHT_MAX_AGE_SECONDS,
    });
  };
}
