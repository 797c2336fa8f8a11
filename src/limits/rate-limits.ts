import { Inject, Injectable, Logger } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { AppError } from '../runtime/app-error.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { within } from '../runtime/within.js';
import { limitOf, type LimitName, type LimitSettings } from './limit-names.js';
import { type Hit, LimitStore } from './limit-store.js';
import { networksOf } from './network.js';

/** A request waits no longer for its limits, in milliseconds. */
const PATIENCE_MS = 1_000;
/** How many times what a /64 may a /48 may, which is a site with many customers, or one who asked for more. */
const SITE_FACTOR = 8;

/** Something that is limited, and by what it is counted. */
export interface Use {
  limit: LimitName;
  /** An id, or for a limit by address the address. */
  of: string;
}

/** What happens where the store of limits does not answer: reading, opening and stopping go on, what costs a model does not. */
export const StoreDown = { Allow: 'allow', Refuse: 'refuse' } as const;
export type StoreDown = (typeof StoreDown)[keyof typeof StoreDown];

const BY_ADDRESS: ReadonlySet<LimitName> = new Set<LimitName>(['sessionsPerAddress', 'messagesPerAddress']);

/** The limits of what people may do, the same for all processes. */
@Injectable()
export class RateLimits {
  private readonly logger = new Logger(RateLimits.name);
  private readonly pacedLogger = new PacedLogger(this.logger);

  constructor(
    @Inject(CONFIG) private readonly config: LimitSettings & Pick<Config, 'LIMITS_ENABLED' | 'TRUST_PROXY'>,
    private readonly store: LimitStore,
  ) {}

  /**
   * Counts what a request uses, or refuses it.
   *
   * @param uses the narrowest first: what is refused for one is not counted for those after it
   * @throws AppError rate_limited; service_unavailable where the store is down and that has to refuse
   */
  async take(uses: readonly Use[], storeDown: StoreDown): Promise<void> {
    if (!this.config.LIMITS_ENABLED) return;
    const counted = uses.flatMap((use) => this.hitsOf(use).map((hit) => ({ use, hit })));
    const exceeded = await within(PATIENCE_MS, this.store.take(counted.map(({ hit }) => hit))).catch(
      (error: unknown) => {
        this.pacedLogger.warn(
          { event: 'limits.store_failed', err: error },
          'the store of limits does not answer: sessions are opened and replies stopped without a limit, messages and retries are refused',
        );
        if (storeDown === StoreDown.Allow) return null;
        throw new AppError(
          'service_unavailable',
          'Whether this is too much cannot be told. Try again in a moment.',
          {
            cause: error,
            retryAfterSeconds: 1,
          },
        );
      },
    );
    if (!exceeded) return;
    const { limit } = counted[exceeded.index]!.use;
    if (BY_ADDRESS.has(limit) && this.config.TRUST_PROXY === undefined) {
      this.pacedLogger.warn(
        { event: 'limits.address_untold', limit },
        'a limit by address was reached, and TRUST_PROXY is not set: behind a proxy everybody counts as one address',
      );
    }
    throw new AppError('rate_limited', 'Too much of this in too short a time. Wait, and try again.', {
      limit,
      retryAfterSeconds: Math.ceil(exceeded.retryAfterMs / 1000),
    });
  }

  private hitsOf({ limit, of }: Use): Hit[] {
    const { max, windowSeconds } = limitOf(this.config, limit);
    if (!BY_ADDRESS.has(limit)) return [{ key: `${limit}:${of}`, max, windowSeconds }];
    return networksOf(of).map((network, wider) => ({
      key: `${limit}:${network}`,
      max: wider === 0 ? max : max * SITE_FACTOR,
      windowSeconds,
    }));
  }
}
