import { Logger } from '@nestjs/common';
import type { ProviderCall } from '../conversations/reply-metrics.js';
import type { Claim, Usage } from '../conversations/reply-store/transitions.js';
import { ReplyErrorCode, type ReplyFinishReason } from '../conversations/reply-status.js';
import { FinishReason, type LlmChunk, LlmError, LlmErrorCode } from '../llm/llm-client.js';
import type { ChosenModel } from '../llm/llm-models.js';
import { countTokens } from '../llm/tokens.js';
import type { AttemptServices } from './attempt-services.js';
import type { DeltaPublisher } from './delta-publisher.js';
import type { Prompt } from './prompt.js';
import { StopReason } from './stop-reason.js';

/** The text so far is stored with the reply when its first piece comes, and then about this often. */
const CHECKPOINT_INTERVAL_MS = 1_000;

/** What a reply says, whole. */
export interface Answer {
  text: string;
  finishReason: ReplyFinishReason;
  /** Null where no model was asked. */
  usage: Usage | null;
}

/** What the model answered. */
export interface ModelAnswer extends Answer {
  finishReason: FinishReason;
  usage: Usage;
}

/** What is asked of which model for which claim, and where the text goes. */
export interface ModelRequest {
  claim: Claim;
  model: ChosenModel;
  prompt: Prompt;
  deltas: DeltaPublisher;
  stop: AbortController;
}

/**
 * One request to a model, made once. It passes the text on while it comes, and decides at the end whether that is an
 * answer: only with a finish reason, not aborted, and not empty. Whatever else the provider reports, the text was cut.
 */
export class ModelCall {
  private readonly logger = new Logger(ModelCall.name);
  private text = '';
  private finish: Omit<Extract<LlmChunk, { type: 'finish' }>, 'type'> | null = null;
  private usage: Extract<LlmChunk, { type: 'usage' }> | null = null;
  private checkpointTimer: NodeJS.Timeout | null = null;

  constructor(
    private readonly services: Pick<AttemptServices, 'config' | 'claims' | 'metrics'>,
    private readonly request: ModelRequest,
  ) {}

  /**
   * Makes the call and counts it, however it ends.
   *
   * @throws LlmError where it came to no answer, or the reason of the stop
   */
  async run(): Promise<ModelAnswer> {
    const { model, stop } = this.request;
    const call = this.services.metrics.beginCall(model.role);
    try {
      await this.readStream(call);
      stop.signal.throwIfAborted();
      const answer = this.judge();
      call.answered(answer.usage);
      return answer;
    } catch (error) {
      if (stop.signal.aborted) call.ended('aborted');
      else call.ended(error instanceof LlmError ? error.code : ReplyErrorCode.Internal);
      throw error;
    } finally {
      clearTimeout(this.checkpointTimer ?? undefined);
    }
  }

  private async readStream(call: ProviderCall): Promise<void> {
    const { model, prompt, stop } = this.request;
    const chunks = model.client.stream({
      model: model.model,
      turns: prompt.turns,
      characteristics: prompt.characteristics,
      signal: stop.signal,
    });
    for await (const chunk of chunks) {
      if (chunk.type === 'text') {
        const room = this.services.config.REPLY_MAX_CHARS - this.text.length;
        this.append(chunk.text.length > room ? cutAt(chunk.text, room) : chunk.text, call);
        if (chunk.text.length > room) {
          this.finish = { reason: FinishReason.Length, isRefusal: false };
          break; // which closes the provider's connection
        }
      } else if (chunk.type === 'finish') {
        this.finish = chunk;
      } else {
        this.usage = chunk;
      }
    }
  }

  private append(text: string, call: ProviderCall): void {
    if (text === '') return;
    this.text += text;
    call.textCame();
    this.request.deltas.append(text);
    this.checkpoint();
  }

  /** Stores the text, and what comes later of it in a while, also where no more comes then. */
  private checkpoint(): void {
    if (this.checkpointTimer) return;
    const { claim, stop, deltas } = this.request;
    const { text } = this;
    this.checkpointTimer = setTimeout(() => {
      this.checkpointTimer = null;
      if (this.text !== text) this.checkpoint();
    }, CHECKPOINT_INTERVAL_MS);
    const firstTextMs = performance.now() - (deltas.firstTextAt ?? performance.now());
    this.services.claims.checkpoint(claim, text, firstTextMs).then(
      (holds) => {
        if (!holds) stop.abort(StopReason.Lost);
      },
      () => undefined, // the heartbeat finds out whether the claim holds
    );
  }

  private judge(): ModelAnswer {
    const { finish, text, usage } = this;
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
        { isRetryable: !isRejected && finish.hasThought === true }, // one that only thought may answer the next time
      );
    }
    if (finish.unknownReason !== undefined) this.reportUnknownReason(finish.unknownReason);
    return {
      text,
      finishReason: finish.reason,
      usage: {
        inputTokens: usage?.inputTokens ?? this.request.prompt.inputTokens,
        outputTokens: usage?.outputTokens ?? countTokens(text),
        isEstimated: usage?.inputTokens == null || usage.outputTokens == null,
      },
    };
  }

  private reportUnknownReason(reason: string): void {
    const { claim, model } = this.request;
    this.services.metrics.finishReasonUnknown(model.role);
    this.logger.warn(
      {
        event: 'provider.finish_reason_unknown',
        reason,
        replyId: claim.replyId,
        sessionId: claim.sessionId,
        attempt: claim.attempt,
      },
      'the provider ended an answer for a reason that is not known here: it counts as whole',
    );
  }
}

/** At most `length` UTF-16 units, and no half of a surrogate pair. */
function cutAt(text: string, length: number): string {
  const last = text.charCodeAt(length - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length);
}
