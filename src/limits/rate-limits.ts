import { randomUUID } from 'node:crypto';
import { Inject, Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import type { Rate } from '../config/setting-types.js';
import { AppError } from '../runtime/app-error.js';
import { Batch } from '../runtime/batch.js';
import { PacedLogger } from '../runtime/paced-logger.js';
import { within } from '../runtime/within.js';
import { allowanceListener } from './allowance.js';
import {
  type HoldName,
  holdOf,
  type LimitName,
  type LimitSettings,
  type OwnLimits,
  type RateName,
  rateOf,
} from './limit-names.js';
import { type Held, HOLD_SECONDS, LimitStore } from './limit-store.js';
import { networksOf } from './network.js';
import { OwnCounts } from './own-counts.js';
import { tooMuch } from './too-much.js';

/** A request waits no longer for its limits, in milliseconds. */
const PATIENCE_MS = 1_000;
/** How many times what a /64 may a /48 may, which is a site with many customers, or one who asked for more. */
const SITE_FACTOR = 8;
/** How often places that are in use are kept on: twice may fail. */
const KEEP_INTERVAL_MS = (HOLD_SECONDS * 1_000) / 3;
/** How long places that are given back are gathered, in milliseconds. */
const LEAVE_AFTER_MS = 20;
/** When a place may be free again, or a store answer, is nobody's to know, in seconds. */
const UNTOLD_RETRY_SECONDS = 5;

/** Something that is limited, and by what it is counted. */
export interface Use<Name extends LimitName = RateName> {
  limit: Name;
  /** An id, or for a limit by address the address. */
  of: string;
}

/** The chatbot that something is done with, which may have limits of its own. */
export interface LimitedChatbot {
  id: string;
  limits: OwnLimits | null;
}

/** What happens where the store of limits does not answer: reading, opening and stopping go on, what costs a model does not. */
export const StoreDown = { Allow: 'allow', Refuse: 'refuse' } as const;
export type StoreDown = (typeof StoreDown)[keyof typeof StoreDown];

const BY_ADDRESS: ReadonlySet<LimitName> = new Set<LimitName>([
  'sessionsPerAddress',
  'messagesPerAddress',
  'streamsPerAddress',
]);

/** One thing that is counted for a use. */
interface Counted<Name extends LimitName> {
  use: Use<Name>;
  key: string;
  /** How many times the limit it may be. */
  factor: number;
}

/** The limits of what people may do, the same for all processes. */
@Injectable()
export class RateLimits implements OnModuleDestroy {
  private readonly logger = new Logger(RateLimits.name);
  private readonly pacedLogger = new PacedLogger(this.logger);
  private readonly own = new OwnCounts();
  private readonly held = new Set<Held>();
  /** Places that are given back: a process that stops has thousands. Where it fails, they are free when their time is up. */
  private readonly left = new Batch<Held>(LEAVE_AFTER_MS, (left) => this.store.letGo(left));
  private readonly timer: NodeJS.Timeout;

  constructor(
    @Inject(CONFIG) private readonly config: LimitSettings & Pick<Config, 'LIMITS_ENABLED' | 'TRUST_PROXY'>,
    private readonly store: LimitStore,
  ) {
    this.timer = setInterval(() => void this.keepOn(), KEEP_INTERVAL_MS).unref();
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
  }

  /**
   * Counts what a request uses, or refuses it.
   *
   * @param uses the narrowest first: what is refused for one is not counted for those after it
   * @param chatbot null: it is not a chatbot's
   * @throws AppError rate_limited; service_unavailable where the store is down and that has to refuse
   */
  async take(uses: readonly Use[], chatbot: LimitedChatbot | null, storeDown: StoreDown): Promise<void> {
    if (!this.config.LIMITS_ENABLED) return;
    const counted = uses.flatMap((use) => this.countedFor(use, chatbot));
    const hits = counted.map(({ use, key, factor }) => {
      const { max, windowSeconds } = rateOf(this.config, use.limit, chatbot?.limits ?? null);
      return { key, max: max * factor, windowSeconds };
    });
    const own = hits.map(({ key, windowSeconds }) => this.own.hit(key, windowSeconds));
    const counts = await within(PATIENCE_MS, this.store.take(hits)).catch((error: unknown) => {
      this.reportDown(error);
      if (storeDown === StoreDown.Allow) return null;
      throw new AppError(
        'service_unavailable',
        'Whether this is too much cannot be told. Try again in a moment.',
        { cause: error, retryAfterSeconds: 1 },
      );
    });
    if (counts === null) {
      // As many as one process may let through by itself: a burst that keeps it from asking is no way in.
      const beyond = hits.findIndex(({ max }, index) => own[index]! > max);
      if (beyond >= 0) throw this.refusalOf(counted[beyond]!.use.limit, UNTOLD_RETRY_SECONDS);
      return;
    }
    const left = counts.map(({ hits: count, resetMs }, index) => ({
      limit: hits[index]!.max,
      remaining: Math.max(0, hits[index]!.max - count),
      // Stored times are rounded, so a window that has just begun may seem to be longer.
      resetSeconds: Math.min(hits[index]!.windowSeconds, Math.ceil(resetMs / 1000)),
    }));
    const nearest = left.reduce((a, b) => (b.remaining < a.remaining ? b : a));
    const last = counts.length - 1;
    const isTooMuch = counts[last]!.hits > hits[last]!.max;
    allowanceListener.getStore()?.(isTooMuch ? left[last]! : nearest);
    if (isTooMuch) throw this.refusalOf(counted[last]!.use.limit, left[last]!.resetSeconds);
  }

  /**
   * Takes a place for something that goes on for a while, or refuses it. Where the store does not answer it goes on.
   *
   * @returns what gives the place back, and may be called more than once
   * @throws AppError rate_limited
   */
  async hold(uses: readonly Use<HoldName>[], chatbot: LimitedChatbot): Promise<() => void> {
    if (!this.config.LIMITS_ENABLED) return () => undefined;
    const counted = uses.flatMap((use) => this.countedFor(use, chatbot));
    const holds = counted.map(({ use, key, factor }) => ({
      key,
      max: holdOf(this.config, use.limit, chatbot.limits) * factor,
    }));
    const held = { keys: holds.map(({ key }) => key), holder: randomUUID() };
    const own = held.keys.map((key) => this.own.enter(key));
    const beyondOf = (used: readonly number[]): number =>
      used.findIndex((count, index) => count > holds[index]!.max);
    // Where those of this process alone are too many already, the store is not asked.
    const used =
      beyondOf(own) >= 0
        ? own
        : await within(PATIENCE_MS, this.store.hold(holds, held.holder)).catch((error: unknown) => {
            this.reportDown(error);
            return null;
          });
    if (used !== null) {
      const beyond = beyondOf(used);
      const left = used.map((count, index) => Math.max(0, holds[index]!.max - count));
      const nearest = beyond >= 0 ? beyond : left.indexOf(Math.min(...left));
      allowanceListener.getStore()?.({
        limit: holds[nearest]!.max,
        remaining: left[nearest]!,
        resetSeconds: UNTOLD_RETRY_SECONDS,
      });
      if (beyond >= 0) {
        for (const key of held.keys) this.own.leave(key);
        throw this.refusalOf(counted[beyond]!.use.limit, UNTOLD_RETRY_SECONDS);
      }
    }
    this.held.add(held);
    return () => {
      if (!this.held.delete(held)) return;
      for (const key of held.keys) this.own.leave(key);
      this.left.add(held);
    };
  }

  /** How many messages of a session may be without an answer, and of how long ago they count; null: any. */
  unansweredOf({ limits }: LimitedChatbot): Pick<Rate, 'max' | 'windowSeconds'> | null {
    return this.config.LIMITS_ENABLED ? rateOf(this.config, 'unansweredPerSession', limits) : null;
  }

  /** Resolves when the places that were given back are free for all processes, or cannot be told. */
  async settle(): Promise<void> {
    await within(PATIENCE_MS, this.left.settle()).catch(() => undefined);
  }

  private async keepOn(): Promise<void> {
    if (this.held.size === 0) return;
    await this.store.keep([...this.held]).catch((error: unknown) => this.reportDown(error));
  }

  private countedFor<Name extends LimitName>(
    use: Use<Name>,
    chatbot: LimitedChatbot | null,
  ): Counted<Name>[] {
    const { limit, of } = use;
    if (!BY_ADDRESS.has(limit)) return [{ use, key: `${limit}:${of}`, factor: 1 }];
    // An address counts for all chatbots together, but for those that have a limit of their own.
    const scope = chatbot?.limits?.[limit] ? `${limit}:${chatbot.id}` : limit;
    return networksOf(of).map((network, wider) => ({
      use,
      key: `${scope}:${network}`,
      factor: wider === 0 ? 1 : SITE_FACTOR,
    }));
  }

  private refusalOf(limit: LimitName, retryAfterSeconds: number): AppError {
    if (BY_ADDRESS.has(limit) && this.config.TRUST_PROXY === undefined) {
      this.pacedLogger.warn(
        { event: 'limits.address_untold', limit },
        'a limit by address was reached, and TRUST_PROXY is not set: behind a proxy everybody counts as one address',
      );
    }
    return tooMuch(limit, retryAfterSeconds);
  }

  private reportDown(error: unknown): void {
    this.pacedLogger.warn(
      { event: 'limits.store_failed', err: error },
      'the store of limits does not answer: of sessions, streams and stops each process lets through what the limits say by itself, messages and retries are refused',
    );
  }
}
