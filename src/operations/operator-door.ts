import { Inject, Injectable, Logger } from '@nestjs/common';
import type { Request } from 'express';
import { isOperator, OPERATOR, type OperatorCredentials } from '../auth/operator.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { networksOf } from '../limits/network.js';

/** Wrong passwords that an address may send, and in which time, in milliseconds; then not even the right one is looked at. */
const MAX_WRONG = 5;
const WINDOW_MS = 60_000;
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
  private readonly wrong = new Map<string, { times: number; until: number }>();

  constructor(
    @Inject(OPERATOR) private readonly operator: OperatorCredentials | null,
    @Inject(CONFIG) private readonly config: Pick<Config, 'LIMITS_ENABLED'>,
  ) {}

  /** Whether there is an operator at all; without one, what is for operators only is off. */
  get exists(): boolean {
    return this.operator !== null;
  }

  judge({ headers: { authorization }, ip, path }: Pick<Request, 'headers' | 'ip' | 'path'>): Visitor {
    if (this.operator === null || authorization === undefined) return Visitor.Stranger;
    const [address = ''] = networksOf(ip);
    const now = performance.now();
    let entry = this.wrong.get(address);
    if (entry && entry.until <= now) entry = undefined;
    if (entry && entry.times >= MAX_WRONG && this.config.LIMITS_ENABLED) return Visitor.Blocked;
    if (isOperator(this.operator, authorization)) return Visitor.Operator;
    this.note(address, { times: (entry?.times ?? 0) + 1, until: entry?.until ?? now + WINDOW_MS });
    this.logger.warn(
      { event: 'operator.wrong_password', address, path },
      'somebody sent a wrong password of the operator; after five in a minute an address is not listened to',
    );
    return Visitor.Stranger;
  }

  private note(address: string, entry: { times: number; until: number }): void {
    this.wrong.delete(address);
    this.wrong.set(address, entry);
    const [oldest] = this.wrong.keys();
    if (this.wrong.size > MAX_ADDRESSES && oldest !== undefined) this.wrong.delete(oldest);
  }
}
