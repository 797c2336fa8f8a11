import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Request } from 'express';
import { isOperator, OPERATOR, type OperatorCredentials } from '../auth/operator.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import type { Hit, LimitStore } from '../limits/limit-store.js';
import { networksOf } from '../limits/network.js';
import { within } from '../runtime/within.js';

/** Wrong passwords that an address may send, and in which time, in milliseconds; then not even the right one is looked at. */
const MAX_WRONG = 5;
const WINDOW_MS = 60_000;
/** How long the other processes' count is waited for, in milliseconds: whoever looks is an operator, or guesses. */
const PATIENCE_MS = 1_000;
/** Addresses that are remembered for that: beyond, the oldest is forgotten. */
const MAX_ADDRESSES = 10_000;

export const Visitor = { Operator: 'operator', Stranger: 'stranger', Blocked: 'blocked' } as const;
export type Visitor = (typeof Visitor)[keyof typeof Visitor];

/** How long a blocked one is told to wait, in seconds. */
export const BLOCKED_SECONDS = WINDOW_MS / 1_000;

/** Lets operators in, by one password, wherever it is asked for; and nobody try many. */
@Injectable()
export class OperatorDoor {
  private readonly logger = new Logger(OperatorDoor.name);
  /** What this process knows by itself, also while it waits for the others: many guesses at once are no way in. */
  private readonly wrong = new Map<string, { times: number; until: number }>();
  private shared: LimitStore | null = null;

  constructor(
    @Inject(OPERATOR) private readonly operator: OperatorCredentials | null,
    @Inject(CONFIG) private readonly config: Pick<Config, 'LIMITS_ENABLED'>,
  ) {}

  /** Whether there is an operator at all; without one, what is for operators only is off. */
  get exists(): boolean {
    return this.operator !== null;
  }

  /** From now on wrong passwords count wherever they are sent. */
  shareBy(store: LimitStore): void {
    this.shared = this.config.LIMITS_ENABLED ? store : null;
  }

  async judge({
    headers: { authorization },
    ip,
    path,
  }: Pick<Request, 'headers' | 'ip' | 'path'>): Promise<Visitor> {
    if (this.operator === null || authorization === undefined) return Visitor.Stranger;
    const [address = ''] = networksOf(ip);
    const now = performance.now();
    let entry = this.wrong.get(address);
    if (entry && entry.until <= now) entry = undefined;
    if (entry && entry.times >= MAX_WRONG && this.config.LIMITS_ENABLED) return Visitor.Blocked;
    const tries: Hit = { key: `operatorTries:${address}`, max: MAX_WRONG, windowSeconds: BLOCKED_SECONDS };
    if (isOperator(this.operator, authorization)) {
      const wrong = await this.askOthers((store) => store.look(tries));
      return wrong && wrong.hits >= MAX_WRONG ? Visitor.Blocked : Visitor.Operator;
    }
    this.note(address, { times: (entry?.times ?? 0) + 1, until: entry?.until ?? now + WINDOW_MS });
    const [wrong] = (await this.askOthers((store) => store.take([tries]))) ?? [];
    if (wrong && wrong.hits > MAX_WRONG) {
      this.note(address, { times: MAX_WRONG, until: now + wrong.resetMs });
      return Visitor.Blocked;
    }
    this.logger.warn(
      { event: 'operator.wrong_password', address, path },
      'somebody sent a wrong password of the operator; after five in a minute an address is not listened to',
    );
    return Visitor.Stranger;
  }

  /** @returns null where they do not answer: then what this process knows has to do */
  private async askOthers<T>(ask: (store: LimitStore) => Promise<T>): Promise<T | null> {
    if (!this.shared) return null;
    return within(PATIENCE_MS, ask(this.shared)).catch(() => null);
  }

  private note(address: string, entry: { times: number; until: number }): void {
    this.wrong.delete(address);
    this.wrong.set(address, entry);
    const [oldest] = this.wrong.keys();
    if (this.wrong.size > MAX_ADDRESSES && oldest !== undefined) this.wrong.delete(oldest);
  }
}
