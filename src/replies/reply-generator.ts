import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { isDatabaseUnavailable } from '../common/database-errors.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { EventStream, EventType, type StreamEntry } from '../events/event-stream.js';
import { FinishReason, LlmError, LlmErrorCode } from '../llm/llm-client.js';
import { type ChosenModel, LlmModels } from '../llm/llm-models.js';
import { countTokens } from '../common/tokens.js';
import { openingOf, ReplyAnnouncer } from '../messages/reply-announcer.js';
import { type Claim, type Finished, ReplyLifecycle, type Usage } from '../messages/reply-lifecycle.js';
import { ReplyQueue } from '../messages/reply-queue.js';
import type { ReplyRow } from '../messages/reply.dto.js';
import { ReplyErrorCode } from '../messages/reply-status.js';
import { type ProviderCall, ReplyMetrics } from '../metrics/reply-metrics.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { inSpan, markAttempt, SpanAttribute } from '../tracing/spans.js';
import { type Conversation, Conversations } from './conversation.js';
import { buildPrompt, type Prompt } from './prompt.js';
import { withoutQuotes } from './quotes.js';
import { Speaker } from './speaker.js';

/** The text so far is kept about this often. */
const CHECKPOINT_INTERVAL_MS = 1_000;

/** What became of one job. */
export type Outcome = 'completed' | 'failed' | 'retrying' | 'handed_back' | 'lost' | 'nothing_to_do';

/** With why an attempt failed, as the guest is told. For Bull Board to show: nothing else may be in it. */
export interface Result {
  outcome: Outcome;
  errorCode?: ReplyErrorCode;
}

/** Why a run was ended from within this process. */
const Stop = {
  /** The claim is somebody else's by now, or the reply is final: say and write nothing more. */
  Lost: 'the claim is lost',
  /** The process stops: give the claim back, unspent. */
  HandBack: 'the worker stops',
} as const;
type Stop = (typeof Stop)[keyof typeof Stop];

interface Run {
  stop: AbortController;
  done: Promise<Result>;
}

/** What the log says of an attempt beside its ids, outcome and duration. */
interface AttemptDetail extends Partial<Usage> {
  /** The model that was asked last; none where it did not come to that. */
  model?: string;
  /** From the call of the model to its first text. */
  firstTextMs?: number;
  finishReason?: FinishReason;
  /** Why it failed, as the guest is told, and in the provider's words. */
  code?: ReplyErrorCode;
  err?: unknown;
  /** Pause before the next attempt. */
  delayMs?: number;
}

interface Answer {
  text: string;
  finishReason: FinishReason;
  usage: Usage;
}

/**
 * Generates replies: claim, ask, speak, finish. It holds no transaction and no pooled connection while the model
 * speaks; whatever it writes carries the claim's fence, and it stops as soon as the fence does not hold.
 */
@Injectable()
export class ReplyGenerator {
  private readonly logger = new Logger(ReplyGenerator.name);
  private readonly runs = new Set<Run>();

  constructor(
    @Inject(CONFIG)
    private readonly config: Pick<Config, 'CONTEXT_MAX_TOKENS' | 'REPLY_MAX_CHARS' | 'DRAIN_TIMEOUT_MS'>,
    private readonly lifecycle: ReplyLifecycle,
    private readonly announcer: ReplyAnnouncer,
    private readonly queue: ReplyQueue,
    private readonly conversations: Conversations,
    private readonly stream: EventStream,
    private readonly models: LlmModels,
    private readonly metrics: ReplyMetrics,
    @Inject(TIMINGS) private readonly timings: Timings,
  ) {}

  /** Works on a reply, if there is work to do. Never throws for what a reply can go through. */
  async generate(replyId: string, dispatchNumber: number): Promise<Result> {
    const stop = new AbortController();
    // Noted before the claim: one that is under way when the process stops is handed back too.
    const run = { stop, done: this.work(replyId, dispatchNumber, stop) };
    this.runs.add(run);
    try {
      return await run.done;
    } finally {
      this.runs.delete(run);
    }
  }

  private async work(replyId: string, dispatchNumber: number, stop: AbortController): Promise<Result> {
    const claimed = await this.lifecycle.claim(replyId);
    if (claimed) {
      const { claim, reply } = claimed;
      const attributes = {
        [SpanAttribute.ReplyId]: claim.replyId,
        [SpanAttribute.SessionId]: claim.sessionId,
        [SpanAttribute.Attempt]: claim.attempt,
        ...(reply.request_id !== null && { [SpanAttribute.RequestId]: reply.request_id }),
      };
      return inSpan('reply attempt', { attributes }, () => this.run(claim, reply, stop));
    }
    const later = await this.lifecycle.postpone(replyId, dispatchNumber);
    if (later) await this.queue.ring(later);
    return { outcome: 'nothing_to_do' };
  }

  /** Waits for what is running, within the bound, and hands the rest back. */
  async drain(): Promise<void> {
    const all = (): Promise<unknown> => Promise.allSettled([...this.runs].map(({ done }) => done));
    await Promise.race([
      all(),
      new Promise((resolve) => setTimeout(resolve, this.config.DRAIN_TIMEOUT_MS).unref()),
    ]);
    for (const { stop } of this.runs) stop.abort(Stop.HandBack);
    await Promise.race([
      all(),
      new Promise((resolve) => setTimeout(resolve, this.timings.leaseMarginMs).unref()),
    ]);
  }

  private async run(claim: Claim, reply: ReplyRow, stop: AbortController): Promise<Result> {
    const startedAt = performance.now();
    const stopHeartbeat = this.keepAlive(claim, stop);
    const stopListening = await this.listenForEnd(claim, stop);
    let outcome: Outcome = 'lost';
    const detail: AttemptDetail = {};
    try {
      const answer = await this.answer(claim, reply, stop, detail);
      const finished = await this.complete(claim, answer, stop.signal);
      if (finished) await this.conclude(finished);
      outcome = finished ? 'completed' : 'lost';
      Object.assign(detail, { finishReason: answer.finishReason, ...answer.usage });
    } catch (error) {
      const recovered = await this.recover(claim, reply, stop.signal, error);
      outcome = recovered.outcome;
      Object.assign(detail, recovered.detail);
    } finally {
      stopHeartbeat();
      stopListening();
    }
    this.metrics.attemptEnded(outcome);
    markAttempt(outcome, detail.code);
    this.logger.log(
      {
        replyId: claim.replyId,
        sessionId: claim.sessionId,
        requestId: reply.request_id,
        attempt: claim.attempt,
        outcome,
        durationMs: Math.round(performance.now() - startedAt),
        ...detail,
      },
      'reply attempt ended',
    );
    return { outcome, ...(detail.code !== undefined && { errorCode: detail.code }) };
  }

  /** Renews the lease until told to end; stops the run when it is lost, or may be soon. */
  private keepAlive(claim: Claim, stop: AbortController): () => void {
    const { leaseMs, leaseMarginMs, heartbeatIntervalMs, leaseWatchIntervalMs } = this.timings;
    let renewedAt = performance.now();
    const timer = setInterval(() => {
      const askedAt = performance.now();
      this.lifecycle.heartbeat(claim).then(
        (holds) => {
          if (holds) renewedAt = askedAt;
          else stop.abort(Stop.Lost);
        },
        () => undefined, // the watch below decides
      );
    }, heartbeatIntervalMs);
    // By the monotonic clock of this process, and apart from the calls that may hang.
    const watch = setInterval(() => {
      if (performance.now() - renewedAt > leaseMs - leaseMarginMs) stop.abort(Stop.Lost);
    }, leaseWatchIntervalMs);
    return () => {
      clearInterval(timer);
      clearInterval(watch);
    };
  }

  /**
   * Stops the run as soon as somebody else has ended its reply, or its session: the event is the doorbell. Resolves
   * when it is heard, before the attempt is told: a reply that was ended earlier refuses that. A bell that rings
   * without saying why is looked after in the rows; one that is lost is made up for by the heartbeat.
   */
  private async listenForEnd(claim: Claim, stop: AbortController): Promise<() => void> {
    let isLooking = false;
    const look = async (): Promise<void> => {
      if (isLooking) return;
      isLooking = true;
      try {
        if (!(await this.lifecycle.heartbeat(claim))) stop.abort(Stop.Lost);
      } catch {
        // the heartbeat decides
      } finally {
        isLooking = false;
      }
    };
    try {
      return await this.stream.subscribe(claim.sessionId, (news) => {
        if (news === null) void look();
        else if (news.events.some(({ type, data }) => endsRun(type, data, claim.replyId)))
          stop.abort(Stop.Lost);
      });
    } catch {
      return () => undefined; // the stream is down: the heartbeat alone tells
    }
  }

  private async answer(
    claim: Claim,
    reply: ReplyRow,
    stop: AbortController,
    detail: AttemptDetail,
  ): Promise<Answer> {
    stop.signal.throwIfAborted();
    const conversation = await this.conversations.read(claim.sessionId, claim.replyId);
    if (!conversation) throw stopped(stop, Stop.Lost);
    if (!(await this.announcer.announceStarted(reply, conversation.question))) {
      // The reply is about to be ended by somebody else; if not, another attempt finds out.
      throw new Error('the event stream refused the attempt');
    }
    const model = this.models.choose(conversation.model, reply.failures);
    const opening = openingOf(reply, conversation.question);
    try {
      return await this.ask(
        claim,
        conversation,
        opening,
        model,
        this.config.CONTEXT_MAX_TOKENS,
        stop,
        detail,
      );
    } catch (error) {
      if (!(error instanceof LlmError && error.code === LlmErrorCode.ContextTooLong)) throw error;
      return await this.ask(
        claim,
        conversation,
        opening,
        model,
        Math.floor(this.config.CONTEXT_MAX_TOKENS / 2),
        stop,
        detail,
      );
    }
  }

  /** Tried for as long as the claim is ours: a database that restarts does not cost what the model has said. */
  private async complete(claim: Claim, answer: Answer, signal: AbortSignal): Promise<Finished | null> {
    for (;;) {
      try {
        return await this.lifecycle.complete(claim, answer);
      } catch (error) {
        if (!isDatabaseUnavailable(error)) throw error;
        await sleep(this.timings.finishRetryIntervalMs, undefined, { signal }).catch(() => undefined);
        signal.throwIfAborted();
      }
    }
  }

  /** One call of the model, told to the watchers as it goes. */
  private async ask(
    claim: Claim,
    conversation: Conversation,
    opening: readonly StreamEntry[],
    model: ChosenModel,
    maxTokens: number,
    stop: AbortController,
    detail: AttemptDetail,
  ): Promise<Answer> {
    const prompt = buildPrompt({ ...conversation, maxTokens });
    if (!(await this.lifecycle.beginCall(claim, model.name, prompt.inputTokens)))
      throw stopped(stop, Stop.Lost);
    const speaker = new Speaker(this.stream, claim, opening, () => stop.abort(Stop.Lost));
    const askedAt = performance.now();
    detail.model = model.name;
    try {
      const answer = await model.run(() => this.call(claim, model, prompt, speaker, stop));
      await speaker.finish();
      stop.signal.throwIfAborted();
      return answer;
    } catch (error) {
      const spoken = prompt.turns.filter(({ role }) => role !== 'system').map(({ content }) => content);
      const { chatbotName, guestName } = conversation;
      throw withoutQuotes(error, [
        ...spoken,
        ...prompt.characteristics,
        chatbotName,
        guestName ?? '',
        speaker.said,
      ]);
    } finally {
      if (speaker.firstTextAt !== null) detail.firstTextMs = Math.round(speaker.firstTextAt - askedAt);
      speaker.stop();
    }
  }

  /** Counts a call, however it ends. */
  private async call(
    claim: Claim,
    model: ChosenModel,
    prompt: Prompt,
    speaker: Speaker,
    stop: AbortController,
  ): Promise<Answer> {
    const call = this.metrics.beginCall(model.role);
    try {
      const answer = await this.listen(claim, model, prompt, speaker, stop, call);
      call.answered(answer.usage);
      return answer;
    } catch (error) {
      if (stop.signal.aborted) call.ended('aborted');
      else call.ended(error instanceof LlmError ? error.code : ReplyErrorCode.Internal);
      throw error;
    }
  }

  private async listen(
    claim: Claim,
    model: ChosenModel,
    prompt: Prompt,
    speaker: Speaker,
    stop: AbortController,
    call: ProviderCall,
  ): Promise<Answer> {
    let text = '';
    let finish: { reason: FinishReason; isRefusal: boolean } | null = null;
    let usage: Usage | null = null;
    let keptAt = -Infinity;
    const keep = (): void => {
      if (performance.now() - keptAt < CHECKPOINT_INTERVAL_MS) return;
      keptAt = performance.now();
      this.lifecycle.checkpoint(claim, text).then(
        (holds) => {
          if (!holds) stop.abort(Stop.Lost);
        },
        () => undefined, // the heartbeat decides
      );
    };
    const chunks = model.client.stream({
      model: model.model,
      turns: prompt.turns,
      characteristics: prompt.characteristics,
      signal: stop.signal,
    });
    for await (const chunk of chunks) {
      if (chunk.type === 'text') {
        const room = this.config.REPLY_MAX_CHARS - text.length;
        const piece = chunk.text.length > room ? cutAt(chunk.text, room) : chunk.text;
        text += piece;
        if (piece !== '') {
          call.spoke();
          speaker.say(piece);
          keep();
        }
        if (chunk.text.length > room) {
          finish = { reason: FinishReason.Length, isRefusal: false };
          break; // which closes the provider's connection
        }
      } else if (chunk.type === 'finish') {
        finish = chunk;
      } else {
        usage = { inputTokens: chunk.inputTokens, outputTokens: chunk.outputTokens, isEstimated: false };
      }
    }
    stop.signal.throwIfAborted();
    if (!finish) {
      throw new LlmError(LlmErrorCode.ProviderUnavailable, 'the stream ended without a finish reason', {
        isRetryable: true,
      });
    }
    if (text.trim() === '') {
      const isRejected = finish.isRefusal || finish.reason === FinishReason.ContentFilter;
      throw new LlmError(
        isRejected ? LlmErrorCode.ProviderRejected : LlmErrorCode.EmptyReply,
        'the model finished without a text',
        { isRetryable: false },
      );
    }
    return {
      text,
      finishReason: finish.reason,
      usage: usage ?? { inputTokens: prompt.inputTokens, outputTokens: countTokens(text), isEstimated: true },
    };
  }

  /** Ends an attempt that did not come to an answer. */
  private async recover(
    claim: Claim,
    reply: ReplyRow,
    signal: AbortSignal,
    error: unknown,
  ): Promise<{ outcome: Outcome; detail: AttemptDetail }> {
    const reason: unknown = signal.aborted ? signal.reason : null;
    if (reason === Stop.Lost) return { outcome: 'lost', detail: {} };
    try {
      if (reason === Stop.HandBack) {
        const dispatch = await this.lifecycle.handBack(claim);
        if (dispatch) await this.queue.ring(dispatch);
        return { outcome: dispatch ? 'handed_back' : 'lost', detail: {} };
      }
      const code = error instanceof LlmError ? error.code : ReplyErrorCode.Internal;
      const detail = { code, err: error };
      if (error instanceof LlmError && !error.options.isRetryable) {
        const finished = await this.lifecycle.fail(claim, code);
        if (finished) await this.conclude(finished);
        return { outcome: finished ? 'failed' : 'lost', detail };
      }
      const delayMs = Math.max(
        this.backoffMs(reply.failures),
        error instanceof LlmError ? (error.options.retryAfterMs ?? 0) : 0,
      );
      const result = await this.lifecycle.retryLater(claim, code, delayMs);
      if (!result) return { outcome: 'lost', detail };
      if ('finished' in result) {
        await this.conclude(result.finished);
        return { outcome: 'failed', detail };
      }
      await this.queue.ring(result.retry);
      return { outcome: 'retrying', detail: { ...detail, delayMs } };
    } catch (cause) {
      // The database does not answer: the lease runs out, and the sweeper lets another worker try.
      this.logger.error({ err: cause, replyId: claim.replyId }, 'an attempt could not be ended properly');
      return { outcome: 'lost', detail: { err: error } };
    }
  }

  /** Exponential, with full jitter over its upper half, so that what failed together does not come back together. */
  private backoffMs(failures: number): number {
    const { attemptBackoffMs, maxAttemptBackoffMs } = this.timings;
    const ceiling = Math.min(attemptBackoffMs * 2 ** failures, maxAttemptBackoffMs);
    return Math.round(ceiling * (0.5 + Math.random() / 2));
  }

  /** A reply is final: tell it, and let the next one of the session go. */
  private async conclude({ reply, message, next }: Finished): Promise<void> {
    await Promise.all([this.announcer.announceFinished(reply, message), this.queue.ringNext(next)]);
  }
}

/** Whether an event of the session means that nobody waits for this reply any more. */
function endsRun(type: EventType, data: string, replyId: string): boolean {
  switch (type) {
    case EventType.SessionDeleted:
      return true;
    case EventType.ReplyCompleted:
    case EventType.ReplyCancelled:
    case EventType.ReplyFailed:
      return (JSON.parse(data) as { reply: { id: string } }).reply.id === replyId;
    default:
      return false;
  }
}

function stopped(stop: AbortController, reason: Stop): unknown {
  stop.abort(reason);
  return reason;
}

/** At most `length` UTF-16 units, and no half of a surrogate pair. */
function cutAt(text: string, length: number): string {
  const last = text.charCodeAt(length - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length);
}
