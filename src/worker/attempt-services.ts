import { Inject, Injectable } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { ReplyEventPublisher } from '../conversations/reply-event-publisher.js';
import { ReplyMetrics } from '../conversations/reply-metrics.js';
import { ReplyQueue } from '../conversations/reply-queue.js';
import { ReplyClaims } from '../conversations/reply-store/claims.js';
import { ReplyUsage } from '../conversations/reply-store/usage.js';
import { EventStream } from '../events/event-stream.js';
import { LlmModels } from '../llm/llm-models.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { CharacteristicChoice } from './characteristic-choice.js';
import { ConversationReader } from './conversation-reader.js';

/** What every attempt works with. Attempts are made for one run each, so Nest injects this once for all of them. */
@Injectable()
export class AttemptServices {
  constructor(
    @Inject(CONFIG)
    readonly config: Pick<
      Config,
      'CONTEXT_MAX_TOKENS' | 'REPLY_MAX_CHARS' | 'DAILY_TOKEN_BUDGET' | 'DAILY_TOKEN_BUDGET_MAX'
    >,
    readonly claims: ReplyClaims,
    readonly usage: ReplyUsage,
    readonly publisher: ReplyEventPublisher,
    readonly queue: ReplyQueue,
    readonly conversations: ConversationReader,
    readonly characteristicChoice: CharacteristicChoice,
    readonly stream: EventStream,
    readonly models: LlmModels,
    readonly metrics: ReplyMetrics,
    @Inject(TIMINGS) readonly timings: Timings,
  ) {}
}
