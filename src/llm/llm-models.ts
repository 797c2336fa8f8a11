import { Logger } from '@nestjs/common';
import { ExtractiveClient } from './extractive-client.js';
import { LlmClient, LlmError, LlmErrorCode } from './llm-client.js';

/** A model that failed this often in a row, whoever asked, is left alone for a while. */
const FAILURES_TO_OPEN = 5;
/** Breakers are kept for so many models: owners name them, so their number is not ours to trust. */
const MAX_BREAKERS = 200;

/** The model that an attempt asks. */
export interface ChosenModel {
  client: LlmClient;
  /** What a request names; null: the client's default. */
  model: string | null;
  /** Which of the models it is; names are without number. */
  role: 'first' | 'fallback' | 'extractive';
  /** What the reply records. */
  name: string;
  /** Makes the call, unless the model is to be left alone just now: then it throws a retryable LlmError. */
  run<T>(call: () => Promise<T>): Promise<T>;
}

/**
 * The configured models: the first one, and the one that answers when the first is unavailable. Each has a circuit
 * breaker, one a process, so that a provider that is down is not asked by every reply in turn.
 */
export class LlmModels {
  private readonly logger = new Logger(LlmModels.name);
  private readonly breakers = new Map<string, Breaker>();
  /** Models that chatbots name and may not, of which the log has told. */
  private readonly toldRefused = new Set<string>();

  /**
   * @param attemptsOfFirst failures of a reply after which the second model answers, where there is one
   * @param circuitOpenMs how long a model that failed too often is left alone before one call tries again
   * @param allowed the models that chatbots may name; null: any
   */
  constructor(
    private readonly first: LlmClient,
    private readonly second: LlmClient | null,
    private readonly attemptsOfFirst: number,
    private readonly circuitOpenMs: number,
    private readonly allowed: readonly string[] | null = null,
  ) {}

  /**
   * @param named the chatbot's own model, which the first client is asked for where it is allowed
   * @param failures how many attempts of the reply have failed
   */
  choose(named: string | null, failures: number): ChosenModel {
    const model = this.permitted(named);
    const name = this.first.modelFor({ model });
    const breaker = this.breakerOf(`first:${name}`);
    if (this.second && (failures >= this.attemptsOfFirst || breaker.waitMs() > 0)) {
      const fallback = this.second.modelFor({ model: null });
      const fallbackBreaker = this.breakerOf(`second:${fallback}`);
      return {
        client: this.second,
        role: 'fallback',
        model: null,
        name: fallback,
        run: (call) => fallbackBreaker.run(call),
      };
    }
    const role = this.first instanceof ExtractiveClient ? 'extractive' : 'first';
    return { client: this.first, role, model, name, run: (call) => breaker.run(call) };
  }

  async close(): Promise<void> {
    await Promise.all([this.first.close(), this.second?.close()]);
  }

  /** What chatbots named before it was forbidden, or as an older version let them, is answered by the default. */
  private permitted(model: string | null): string | null {
    if (model === null || this.allowed === null || this.allowed.includes(model)) return model;
    if (!this.toldRefused.has(model) && this.toldRefused.size < MAX_BREAKERS) {
      this.toldRefused.add(model);
      this.logger.warn(
        { event: 'model.not_allowed', model },
        'a chatbot names a model that ALLOWED_MODELS does not have: OPENAI_MODEL answers for it',
      );
    }
    return null;
  }

  private breakerOf(name: string): Breaker {
    let breaker = this.breakers.get(name);
    if (!breaker) {
      breaker = new Breaker(this.circuitOpenMs);
      const [oldest] = this.breakers.keys();
      if (this.breakers.size >= MAX_BREAKERS && oldest !== undefined) this.breakers.delete(oldest);
      this.breakers.set(name, breaker);
    }
    return breaker;
  }
}

const isOutage = (error: unknown): boolean =>
  error instanceof LlmError &&
  (error.code === LlmErrorCode.ProviderUnavailable || error.code === LlmErrorCode.ProviderTimeout);

/**
 * A circuit breaker. It opens at so many outages in a row, lets one call try when its time is up, and that one
 * decides: an outage opens it again, anything else closes it.
 */
class Breaker {
  private outagesInARow = 0;
  /** Null while it is closed. */
  private openedAt: number | null = null;
  private isTrying = false;

  constructor(private readonly openMs: number) {}

  /** How long the model is to be left alone, in milliseconds; 0: it may be asked. */
  waitMs(): number {
    if (this.isTrying) return 1_000; // the others do not wait behind the trial
    return this.openedAt === null ? 0 : Math.max(0, this.openedAt + this.openMs - Date.now());
  }

  async run<T>(call: () => Promise<T>): Promise<T> {
    const waitMs = this.waitMs();
    if (waitMs > 0) throw leftAlone(waitMs);
    const isTrial = this.openedAt !== null;
    this.isTrying = isTrial;
    try {
      const result = await call();
      this.outagesInARow = 0;
      if (isTrial) this.close();
      return result;
    } catch (error) {
      if (isOutage(error)) this.noteOutage(isTrial);
      else if (isTrial) this.close();
      throw error;
    }
  }

  private noteOutage(isOfTrial: boolean): void {
    this.outagesInARow++;
    const isTooMany = this.openedAt === null && this.outagesInARow >= FAILURES_TO_OPEN;
    if (!isOfTrial && !isTooMany) return;
    this.openedAt = Date.now();
    this.isTrying = false;
  }

  private close(): void {
    this.outagesInARow = 0;
    this.openedAt = null;
    this.isTrying = false;
  }
}

const leftAlone = (waitMs: number): LlmError =>
  new LlmError(
    LlmErrorCode.ProviderUnavailable,
    'the model has failed too often just now and is left alone',
    {
      isRetryable: true,
      retryAfterMs: waitMs,
    },
  );
