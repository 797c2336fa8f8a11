import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { openingOf } from '../conversations/reply-event-publisher.js';
import { tokenBudgetOf } from '../chatbots/token-budget.js';
import { Reservation } from '../conversations/reply-store/usage.js';
import type { CharacteristicsUsed, LostText } from '../conversations/reply-store/claims.js';
import type { Claim, Dispatch, Finished, Usage } from '../conversations/reply-store/transitions.js';
import { LostReason, ReplyErrorCode, ReplyFinishReason } from '../conversations/reply-status.js';
import type { ReplyRow } from '../conversations/reply.dto.js';
import { isDatabaseUnavailable } from '../database/database-errors.js';
import { LlmError, LlmErrorCode } from '../llm/llm-client.js';
import type { ChosenModel } from '../llm/llm-models.js';
import { tokensAtMost } from '../llm/tokens-at-most.js';
import { PROCESS_NAME } from '../runtime/process-name.js';
import { markAttempt } from '../tracing/spans.js';
import type { AttemptServices } from './attempt-services.js';
import type { Conversation } from './conversation-reader.js';
import { DeltaPublisher } from './delta-publisher.js';
import { LeaseKeeper } from './lease-keeper.js';
import { type Answer, ModelCall } from './model-call.js';
import { buildPrompt, type Prompt } from './prompt.js';
import { withoutQuotes } from './quotes.js';
import { StopReason } from './stop-reason.js';

/** What a chatbot says whose budget of the day is spent, and whose owner has not said what (API.md, Budget). */
const UNAVAILABLE = 'This chat is not available right now. Please try again later.';
/** Of a long reply in Latin letters: its tokens are what may come of the longest. */
const CHARS_A_TOKEN = 4;

/** What became of one job. */
export type Outcome = 'completed' | 'failed' | 'retrying' | 'handed_back' | 'lost' | 'nothing_to_do';

/** The outcome, and why an attempt failed, as the guest sees it. Bull Board shows it: nothing else may be in it. */
export interface Result {
  outcome: Outcome;
  errorCode?: ReplyErrorCode;
}

/** What is logged of an attempt beside its ids, outcome and duration. */
interface AttemptDetail extends Partial<Usage> {
  /** The model that was asked last; none where the attempt ended before. */
  model?: string;
  /** How many of the chatbot's characteristics the prompt held, and of how many. */
  characteristicsUsed?: CharacteristicsUsed;
  /** From the call of the model to its first text. */
  firstTextMs?: number;
  finishReason?: ReplyFinishReason;
  /** Why it failed, as the guest sees it. */
  code?: ReplyErrorCode;
  /** The error behind the code. */
  err?: unknown;
  /** Pause before the next attempt. */
  delayMs?: number;
}

/**
 * One attempt at a claimed reply: read the conversation, ask the model, publish its text, store the end.
 *
 * No transaction and no pooled connection is held while the model answers. Every write carries the claim's fence, and
 * the attempt stops, and aborts the call of the model, as soon as the fence does not hold.
 */
export class ReplyAttempt {
  private readonly logger = new Logger(ReplyAttempt.name);
  private readonly claim: Claim;
  private readonly reply: ReplyRow;
  private readonly detail: AttemptDetail = {};
  private hasAsked = false;
  /** When its first text came, by `performance.now()`; null: none yet. */
  private firstTextAt: number | null = null;
  /** What the model that was asked last has said. */
  private text = '';

  /**
   * @param stop aborted with a {@link StopReason}, by the attempt itself or from outside
   * @param onAsking called when the start is over: from here on the attempt waits for the model
   */
  constructor(
    private readonly services: AttemptServices,
    { claim, reply }: { claim: Claim; reply: ReplyRow },
    private readonly stop: AbortController,
    private readonly onAsking: () => void,
  ) {
    this.claim = claim;
    this.reply = reply;
  }

  /** Runs to one of the outcomes. Never throws for what a reply can go through. */
  async run(): Promise<Result> {
    const startedAt = performance.now();
    const lease = new LeaseKeeper(this.services, this.claim, this.stop);
    await lease.start();
    let outcome: Outcome = 'lost';
    try {
      outcome = await this.generate();
    } catch (error) {
      outcome = await this.endWithoutAnswer(error);
    } finally {
      lease.end();
    }
    const { code } = this.detail;
    this.services.metrics.attemptEnded(outcome);
    markAttempt(outcome, code);
    this.logger.log(
      {
        event: 'reply.attempt_ended',
        ...this.ids(),
        outcome,
        durationMs: Math.round(performance.now() - startedAt),
        ...this.detail,
      },
      `reply attempt ended: ${outcome}`,
    );
    return { outcome, ...(code !== undefined && { errorCode: code }) };
  }

  private async generate(): Promise<Outcome> {
    const answer = await this.answer();
    const finished = await this.complete(answer);
    if (finished) await this.conclude(finished);
    Object.assign(this.detail, { finishReason: answer.finishReason, ...answer.usage });
    return finished ? 'completed' : 'lost';
  }

  private async answer(): Promise<Answer> {
    this.stop.signal.throwIfAborted();
    const { config, conversations, models, publisher } = this.services;
    const conversation = await this.patiently(() =>
      conversations.read(this.claim.sessionId, this.claim.replyId),
    );
    if (!conversation) throw this.lost();
    if (!(await publisher.publishStarted(this.reply, conversation.question))) {
      // Somebody else is about to end the reply; if not, the next attempt finds out.
      throw new Error('the event stream refused the attempt');
    }
    const model = models.choose(conversation.model, this.reply.failures);
    this.logger.log(
      { event: 'reply.attempt_started', ...this.ids(), worker: PROCESS_NAME, model: model.name },
      'a worker has claimed a reply and is about to ask the model',
    );
    try {
      return await this.ask(conversation, model, config.CONTEXT_MAX_TOKENS);
    } catch (error) {
      if (!(error instanceof LlmError && error.code === LlmErrorCode.ContextTooLong)) throw error;
      return await this.ask(conversation, model, Math.floor(config.CONTEXT_MAX_TOKENS / 2));
    }
  }

  /** One call of the model, published to the subscribers while it answers. */
  private async ask(conversation: Conversation, model: ChosenModel, maxTokens: number): Promise<Answer> {
    const { services, claim, stop } = this;
    const opening = openingOf(this.reply, conversation.question);
    const prompt = await buildPrompt({ ...conversation, maxTokens }, services.characteristicChoice);
    const characteristicsUsed = {
      used: prompt.characteristics.length,
      of: conversation.characteristics.length,
    };
    if (!(await this.hasBudget(conversation, prompt))) return this.sayUnavailable(conversation);
    const isHeld = await this.patiently(() =>
      services.claims.beginCall(claim, model.name, prompt.inputTokens, characteristicsUsed),
    );
    if (!isHeld) throw this.lost();
    this.hasAsked = true;
    this.onAsking();
    services.metrics.promptBuilt(characteristicsUsed);
    this.detail.characteristicsUsed = characteristicsUsed;
    const deltas = new DeltaPublisher(services.stream, claim, opening, () => stop.abort(StopReason.Lost));
    const askedAt = performance.now();
    this.detail.model = model.name;
    try {
      const answer = await model.run(() =>
        new ModelCall(services, { claim, model, prompt, deltas, stop }).run(),
      );
      await deltas.finish();
      stop.signal.throwIfAborted();
      return answer;
    } catch (error) {
      throw withoutQuotes(error, textsOf(conversation, prompt, deltas.text));
    } finally {
      if (deltas.firstTextAt !== null) this.detail.firstTextMs = Math.round(deltas.firstTextAt - askedAt);
      this.firstTextAt ??= deltas.firstTextAt;
      this.text = deltas.text;
      deltas.stop();
    }
  }

  /**
   * Takes from the chatbot's budget of the day what the call may come to. Where replies that are being made may take what is
   * left, it waits for their end, so that the budget is passed by no more than one reply.
   */
  private async hasBudget({ dailyTokenBudget }: Conversation, prompt: Prompt): Promise<boolean> {
    const { config, usage, timings } = this.services;
    const budget = tokenBudgetOf(dailyTokenBudget, config);
    if (budget === null) return true;
    const tokens = prompt.inputTokens + Math.ceil(config.REPLY_MAX_CHARS / CHARS_A_TOKEN);
    for (;;) {
      const reservation = await this.patiently(() => usage.reserve(this.claim, tokens, budget));
      if (reservation === Reservation.Lost) throw this.lost();
      if (reservation !== Reservation.Wait) return reservation === Reservation.Reserved;
      this.onAsking(); // the wait is as long as an answer
      const { signal } = this.stop;
      await sleep(timings.budgetRetryIntervalMs, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
    }
  }

  /** Says, instead of an answer, that there is none today. */
  private async sayUnavailable({ unavailableMessage, question }: Conversation): Promise<Answer> {
    const { services, claim, stop } = this;
    this.onAsking();
    const text = unavailableMessage ?? UNAVAILABLE;
    const opening = openingOf(this.reply, question);
    const deltas = new DeltaPublisher(services.stream, claim, opening, () => stop.abort(StopReason.Lost));
    deltas.append(text);
    await deltas.finish();
    stop.signal.throwIfAborted();
    return { text, finishReason: ReplyFinishReason.Budget, usage: null };
  }

  private async complete(answer: Answer): Promise<Finished | null> {
    return this.patiently(() =>
      this.services.claims.complete(this.claim, {
        ...answer,
        firstTextMs: this.firstTextAt === null ? 0 : performance.now() - this.firstTextAt,
      }),
    );
  }

  /** What it said, where no answer came of it. */
  private get lostText(): LostText | null {
    return this.firstTextAt === null
      ? null
      : { firstTextMs: performance.now() - this.firstTextAt, tokens: tokensAtMost(this.text) };
  }

  /**
   * Tries for as long as the claim holds, or until the process stops: a database that restarts, or whose connections are
   * all in use, must cost neither the answer nor an attempt.
   */
  private async patiently<T>(work: () => Promise<T>): Promise<T> {
    const { signal } = this.stop;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isDatabaseUnavailable(error)) throw error;
        await sleep(this.services.timings.finishRetryIntervalMs, undefined, { signal }).catch(
          () => undefined,
        );
        signal.throwIfAborted();
      }
    }
  }

  private async endWithoutAnswer(error: unknown): Promise<Outcome> {
    const { aborted, reason } = this.stop.signal;
    if (aborted && reason === StopReason.Lost) return 'lost';
    try {
      return aborted && reason === StopReason.HandBack ? await this.handBack(0) : await this.fail(error);
    } catch (cause) {
      this.logger.error(
        { event: 'reply.attempt_not_ended', ...this.ids(), err: cause },
        'the end of a reply attempt could not be stored: when its lease expires, the reconciler enqueues the reply again',
      );
      this.detail.err = error;
      return 'lost';
    }
  }

  /** @param delayMs pause before the next attempt */
  private async handBack(delayMs: number): Promise<Outcome> {
    const dispatch = await this.services.claims.handBack(this.claim, delayMs, this.lostText);
    if (!dispatch) return 'lost';
    await this.letGo(dispatch, LostReason.WorkerStopped);
    return 'handed_back';
  }

  /** Ends an attempt that failed: for good, or with another attempt to follow. */
  private async fail(error: unknown): Promise<Outcome> {
    if (!this.hasAsked && !(error instanceof LlmError)) {
      // Nothing was asked, so nothing is charged; the reply's deadline ends what would go on for ever.
      this.detail.err = error;
      return this.handBack(this.backoffMs(this.claim.attempt - 1));
    }
    const code = error instanceof LlmError ? error.code : ReplyErrorCode.Internal;
    const isPassing = !(error instanceof LlmError) || error.options.isRetryable;
    const outcome = isPassing ? await this.retryLater(code, error) : await this.failForGood(code);
    Object.assign(this.detail, { code, err: error });
    return outcome;
  }

  private async failForGood(code: ReplyErrorCode): Promise<Outcome> {
    const finished = await this.services.claims.fail(this.claim, code, this.lostText);
    if (finished) await this.conclude(finished);
    return finished ? 'failed' : 'lost';
  }

  private async retryLater(code: ReplyErrorCode, error: unknown): Promise<Outcome> {
    const retryAfterMs = error instanceof LlmError ? (error.options.retryAfterMs ?? 0) : 0;
    const delayMs = Math.max(this.backoffMs(this.reply.failures), retryAfterMs);
    const result = await this.services.claims.retryLater(this.claim, code, delayMs, this.lostText);
    if (!result) return 'lost';
    if ('finished' in result) {
      await this.conclude(result.finished); // the attempts or the time are used up
      return 'failed';
    }
    await this.letGo(result.retry, code);
    this.detail.delayMs = delayMs;
    return 'retrying';
  }

  /** Enqueues the next attempt, and tells subscribers that it will come. */
  private async letGo(dispatch: Dispatch, reason: string): Promise<void> {
    const { publisher, queue } = this.services;
    const { replyId, sessionId, attempt } = this.claim;
    const retryAt = dispatch.delayMs > 0 ? dispatch.dueAt : null;
    await Promise.all([
      publisher.publishRetrying(sessionId, { replyId, attempt, reason, retryAt }),
      queue.enqueue(dispatch),
    ]);
  }

  /** Exponential, with jitter over its upper half, so that what failed together does not come back together. */
  private backoffMs(before: number): number {
    const { attemptBackoffMs, maxAttemptBackoffMs } = this.services.timings;
    const ceiling = Math.min(attemptBackoffMs * 2 ** before, maxAttemptBackoffMs);
    return Math.round(ceiling * (0.5 + Math.random() / 2));
  }

  /** Publishes the end of the reply, and enqueues the session's next one. */
  private async conclude({ reply, message, next }: Finished): Promise<void> {
    const { publisher, queue } = this.services;
    await Promise.all([publisher.publishFinished(reply, message), queue.enqueueNext(next)]);
  }

  /** Stops the attempt, whose claim does not hold any more. @returns what to throw */
  private lost(): unknown {
    this.stop.abort(StopReason.Lost);
    return StopReason.Lost;
  }

  private ids(): object {
    const { replyId, sessionId, attempt } = this.claim;
    return { replyId, sessionId, requestId: this.reply.request_id, attempt };
  }
}

/** Everything that people and the model wrote in this call. */
function textsOf(
  { chatbotName, instructions, guestName }: Conversation,
  prompt: Prompt,
  answered: string,
): string[] {
  const turns = prompt.turns.filter(({ role }) => role !== 'system').map(({ content }) => content);
  return [
    ...turns,
    ...prompt.characteristics,
    chatbotName,
    instructions?.text ?? '',
    guestName ?? '',
    answered,
  ];
}
