import { Injectable } from '@nestjs/common';
import type { Counter, Histogram } from 'prom-client';
import { Metrics } from '../metrics/metrics.js';
import { FINAL_STATUSES, ReplyErrorCode, ReplyStatus } from './reply-status.js';
import type { ReplyRow } from './reply.dto.js';

/** Which of the configured models, not its name: owners may name any. */
type ModelRole = 'first' | 'fallback' | 'extractive';

/** The times and the end of a reply, as its row has them. */
type FinishedReply = Pick<
  ReplyRow,
  'status' | 'error_code' | 'created_at' | 'first_token_at' | 'finished_at'
>;

/** From a tenth of a second to REPLY_MAX_AGE_MS' default. */
const REPLY_BUCKETS = [0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600];

/**
 * How replies fare, counted by whoever commits the last transition (a worker, an api that cancels, a reconciler), and
 * the worker's attempts and calls of models.
 */
@Injectable()
export class ReplyMetrics {
  private readonly finishedReplies: Counter<'status' | 'error_code'>;
  private readonly duration: Histogram<'status'>;
  private readonly firstToken: Histogram;
  private readonly attempts: Counter<'outcome'>;
  private readonly prompts: Counter<'characteristics'>;
  private readonly provider: ProviderMetrics;

  constructor(metrics: Metrics) {
    this.finishedReplies = metrics.counter({
      name: 'assistly_replies_finished_total',
      help: 'Replies that became final, by status and, of those that failed, error code. At most once each; not counted where the answer to the commit was lost.',
      labelNames: ['status', 'error_code'],
    });
    this.duration = metrics.histogram({
      name: 'assistly_reply_duration_seconds',
      help: 'From the post to the end of the reply, by PostgreSQL’s clock. What a session has waited for its previous reply is in it.',
      labelNames: ['status'],
      buckets: REPLY_BUCKETS,
    });
    this.firstToken = metrics.histogram({
      name: 'assistly_reply_first_token_seconds',
      help: 'From the post to the first text of the reply, by PostgreSQL’s clock, counted at its end.',
      buckets: REPLY_BUCKETS,
    });
    this.attempts = metrics.counter({
      name: 'assistly_reply_attempts_total',
      help: 'Attempts that ended, by outcome: completed, failed, retrying, handed_back, lost; and worker_lost, counted by the reconciler for those whose lease ran out (a worker that comes back counts them as lost, too).',
      labelNames: ['outcome'],
    });
    this.prompts = metrics.counter({
      name: 'assistly_prompts_total',
      help: 'Prompts that were sent to a model, by the characteristics of the chatbot in them: all, or some, where not all of them fitted.',
      labelNames: ['characteristics'],
    });
    this.provider = providerMetrics(metrics);
    // Shown as 0 before the first: a rate needs a number to begin with.
    for (const status of FINAL_STATUSES) {
      for (const error_code of status === ReplyStatus.Failed ? Object.values(ReplyErrorCode) : [''])
        this.finishedReplies.inc({ status, error_code }, 0);
    }
  }

  /** To be called by whoever has committed the transition. */
  finished({ status, error_code, created_at, first_token_at, finished_at }: FinishedReply): void {
    this.finishedReplies.inc({ status, error_code: error_code ?? '' });
    this.duration.observe({ status }, secondsBetween(created_at, finished_at ?? created_at));
    if (first_token_at !== null) this.firstToken.observe(secondsBetween(created_at, first_token_at));
  }

  attemptEnded(outcome: string): void {
    this.attempts.inc({ outcome });
  }

  promptBuilt({ used, of }: { used: number; of: number }): void {
    this.prompts.inc({ characteristics: used < of ? 'some' : 'all' });
  }

  /** A provider has ended an answer for a reason that nobody here knows. */
  finishReasonUnknown(model: ModelRole): void {
    this.provider.unknownFinishReasons.inc({ model });
  }

  beginCall(model: ModelRole): ProviderCall {
    return new ProviderCall(this.provider, model);
  }
}

type ProviderMetrics = ReturnType<typeof providerMetrics>;

/** Label `model`: first, fallback or extractive. */
const providerMetrics = (metrics: Metrics) => ({
  calls: metrics.counter({
    name: 'assistly_provider_calls_total',
    help: 'Calls of a model that ended, by outcome: answered, aborted (cancelled, or the worker stops), or an error code. Those that a circuit breaker spared are not in it.',
    labelNames: ['model', 'outcome'],
  }),
  firstToken: metrics.histogram({
    name: 'assistly_provider_first_token_seconds',
    help: 'From the call of a model to its first text.',
    labelNames: ['model'],
    buckets: REPLY_BUCKETS,
  }),
  unknownFinishReasons: metrics.counter({
    name: 'assistly_provider_unknown_finish_reasons_total',
    help: 'Answers that a provider ended for a reason that is not known here, and that count as whole. The log names the reason.',
    labelNames: ['model'],
  }),
  tokens: metrics.counter({
    name: 'assistly_tokens_total',
    help: 'Tokens of calls that were answered, as the provider counts them, estimated where it does not.',
    labelNames: ['model', 'direction'],
  }),
});

/** One call of a model. */
export class ProviderCall {
  private readonly beganAt = performance.now();
  private hasText = false;

  constructor(
    private readonly metrics: ProviderMetrics,
    private readonly model: ModelRole,
  ) {}

  /** May be called for each piece of text: the first one counts. */
  textCame(): void {
    if (this.hasText) return;
    this.hasText = true;
    this.metrics.firstToken.observe({ model: this.model }, (performance.now() - this.beganAt) / 1000);
  }

  answered(usage: { inputTokens: number; outputTokens: number }): void {
    const { model } = this;
    this.metrics.calls.inc({ model, outcome: 'answered' });
    this.metrics.tokens.inc({ model, direction: 'input' }, usage.inputTokens);
    this.metrics.tokens.inc({ model, direction: 'output' }, usage.outputTokens);
  }

  /** @param outcome an error code, or `aborted` */
  ended(outcome: string): void {
    this.metrics.calls.inc({ model: this.model, outcome });
  }
}

const secondsBetween = (from: string, to: string): number =>
  Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
