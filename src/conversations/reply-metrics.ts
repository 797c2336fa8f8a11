import { Injectable } from '@nestjs/common';
import { Metrics } from '../metrics/metrics.js';

/** Which of the configured models, not its name: owners may name any. */
export type ModelRole = 'first' | 'fallback' | 'extractive';

/** The times and the end of a reply, as its row has them. */
interface FinishedReply {
  status: string;
  error_code: string | null;
  created_at: string;
  first_token_at: string | null;
  finished_at: string | null;
}

/** How replies fare, in {@link Metrics}' words. */
@Injectable()
export class ReplyMetrics {
  constructor(private readonly metrics: Metrics) {}

  /** Shows the ends that replies can have as 0 before the first: a rate needs a number to begin with. */
  expect(statuses: readonly string[], errorCodes: readonly string[]): void {
    for (const status of statuses) {
      for (const error_code of status === 'failed' ? errorCodes : [''])
        this.metrics.repliesFinished.inc({ status, error_code }, 0);
    }
  }

  /** To be called by whoever has committed the transition. */
  finished({ status, error_code, created_at, first_token_at, finished_at }: FinishedReply): void {
    this.metrics.repliesFinished.inc({ status, error_code: error_code ?? '' });
    this.metrics.replyDuration.observe({ status }, secondsBetween(created_at, finished_at ?? created_at));
    if (first_token_at !== null)
      this.metrics.replyFirstToken.observe(secondsBetween(created_at, first_token_at));
  }

  attemptEnded(outcome: string): void {
    this.metrics.replyAttempts.inc({ outcome });
  }

  beginCall(model: ModelRole): ProviderCall {
    return new ProviderCall(this.metrics, model);
  }
}

/** One call of a model. */
export class ProviderCall {
  private readonly beganAt = performance.now();
  private hasSpoken = false;

  constructor(
    private readonly metrics: Metrics,
    private readonly model: ModelRole,
  ) {}

  /** May be called for each piece of text: the first one counts. */
  spoke(): void {
    if (this.hasSpoken) return;
    this.hasSpoken = true;
    this.metrics.providerFirstToken.observe({ model: this.model }, (performance.now() - this.beganAt) / 1000);
  }

  answered(usage: { inputTokens: number; outputTokens: number }): void {
    const { model } = this;
    this.metrics.providerCalls.inc({ model, outcome: 'answered' });
    this.metrics.tokens.inc({ model, direction: 'input' }, usage.inputTokens);
    this.metrics.tokens.inc({ model, direction: 'output' }, usage.outputTokens);
  }

  /** @param outcome an error code, or `aborted` */
  ended(outcome: string): void {
    this.metrics.providerCalls.inc({ model: this.model, outcome });
  }
}

const secondsBetween = (from: string, to: string): number =>
  Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
