import { ApiProperty } from '@nestjs/swagger';
import { expressionBuilder, sql } from 'kysely';
import { isoTime, isoTimeOrNull } from '../database/database.js';
import type { Row, Tables } from '../database/tables.js';
import { MessageSender } from './message.entity.js';
import { FINAL_STATUSES, ReplyErrorCode, ReplyFinishReason, ReplyStatus } from './reply-status.js';

/** What each failure means to those who run a chatbot. */
const ERROR_MEANINGS: Record<ReplyErrorCode, string> = {
  provider_timeout: 'the model took too long to answer',
  provider_unavailable: 'the model’s server could not be reached, or broke off its answers',
  provider_rate_limited: 'the model’s server is busy, or its account has no more to spend at this pace',
  provider_rejected:
    'the model’s server refused the request (a wrong key, an unknown model, an empty account; the worker’s log says which), or the model this question',
  context_too_long: 'the prompt is too long for the model, shortened as well',
  empty_reply: 'the model ended without a text',
  expired: 'the reply was not ready in time',
  internal: 'an error of the product’s own, which the log has',
};

/**
 * What a guest reads of each failure. Whether a key is wrong is not the guest's business, and never are the provider's own
 * words, which may hold a key or a URL.
 */
const ERROR_DETAILS: Record<ReplyErrorCode, string> = {
  provider_timeout: 'The answer took too long. Please try again.',
  provider_unavailable: 'The answer cannot be given at the moment. Please try again in a few minutes.',
  provider_rate_limited: 'There are too many questions at the moment. Please try again in a minute.',
  provider_rejected: 'This could not be answered. Please try again later, or ask in other words.',
  context_too_long: 'This conversation has become too long. Please start a new one.',
  empty_reply: 'There was no answer to this. Please ask in other words.',
  expired: 'The answer was not ready in time. Please try again.',
  internal: 'Something went wrong on our side. Please try again.',
};

export class ReplyUsageDto {
  @ApiProperty({ type: 'integer', minimum: 0 })
  inputTokens!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  outputTokens!: number;
  @ApiProperty({ description: 'True where the provider sent no count and it was estimated.' })
  estimated!: boolean;
}

class CharacteristicsUsedDto {
  @ApiProperty({ type: 'integer', minimum: 0, description: 'So many were in the prompt.' })
  used!: number;
  @ApiProperty({ type: 'integer', minimum: 0, description: 'So many the chatbot had.' })
  of!: number;
}

class ReplyErrorDto {
  @ApiProperty({
    enum: ReplyErrorCode,
    enumName: 'ReplyErrorCode',
    description: Object.entries(ERROR_MEANINGS)
      .map(([code, meaning]) => `- \`${code}\`: ${meaning}.`)
      .join('\n'),
  })
  code!: ReplyErrorCode;
  @ApiProperty({ description: 'What a guest may read of it, in English; `code` is for everybody else.' })
  detail!: string;
}

export class ReplyDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty({ format: 'uuid' })
  chatSessionId!: string;
  @ApiProperty({
    enum: ReplyStatus,
    enumName: 'ReplyStatus',
    description:
      '`queued` → `in_progress` → `completed`, `failed` or `cancelled`; a queued one may fail or be cancelled, too. The last three are final. One that is tried again after a passing fault stays `in_progress`, and its `attempt` grows.',
  })
  status!: ReplyStatus;
  @ApiProperty({
    type: String,
    format: 'uuid',
    nullable: true,
    description: 'The AI message, once there is one.',
  })
  messageId!: string | null;
  @ApiProperty({
    type: String,
    format: 'uuid',
    nullable: true,
    description: 'The reply that this one retries.',
  })
  retryOf!: string | null;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description: 'Counts the attempts to generate it; never goes down.',
  })
  attempt!: number;
  @ApiProperty({
    type: String,
    nullable: true,
    description: 'The model that spoke, or speaks.',
  })
  model!: string | null;
  @ApiProperty({
    enum: ReplyFinishReason,
    enumName: 'ReplyFinishReason',
    nullable: true,
    description:
      'Why the text ended: `length` at the longest reply that is allowed, `content_filter` where the model would not go on, `budget` where the chatbot’s budget of the day is spent: the message is its `unavailableMessage`, and no model was asked. Null until then, and where it failed.',
  })
  finishReason!: ReplyFinishReason | null;
  @ApiProperty({
    type: ReplyUsageDto,
    nullable: true,
    description: 'Null until the end, and where nothing was generated.',
  })
  usage!: ReplyUsageDto | null;
  @ApiProperty({ type: ReplyErrorDto, nullable: true, description: 'Only of a failed reply.' })
  error!: ReplyErrorDto | null;
  @ApiProperty({ format: 'date-time', description: 'When it was queued.' })
  createdAt!: string;
  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'When its first attempt began.',
  })
  startedAt!: string | null;
  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'When its first text came.',
  })
  firstTokenAt!: string | null;
  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'When it became final.' })
  finishedAt!: string | null;
  @ApiProperty({
    type: CharacteristicsUsedDto,
    nullable: true,
    description:
      'What the model was told of the chatbot’s characteristics. Where not all of them fitted, it got those that fit the question best. Null until a model is asked.',
  })
  characteristicsUsed!: CharacteristicsUsedDto | null;
}

/** Two times of one statement may be rounded apart by so much, in milliseconds. */
const CLOCK_GRAIN_MS = 1;

/** A reply with its AI message's id. */
export type ReplyRow = Row<'replies'> & { message_id: string | null };

/** To be selected beside the columns of `replies`, for a {@link ReplyRow}. */
export const messageId = expressionBuilder<Tables, 'replies'>()
  .selectFrom('messages as m')
  .select('m.id')
  .whereRef('m.reply_id', '=', 'replies.id')
  .where('m.sender', '=', MessageSender.Ai)
  .as('message_id');

/** A {@link ReplyRow}, in statements that are written as SQL. */
export const replyRow = sql`replies.*, ${messageId}`;

export const isFinal = (status: ReplyStatus): boolean => FINAL_STATUSES.includes(status);

/** Whether it has ended with what there is of its text. */
const isAnswered = (status: ReplyStatus): boolean =>
  status === ReplyStatus.Completed || status === ReplyStatus.Cancelled;

export function toReplyDto(row: ReplyRow): ReplyDto {
  return {
    id: row.id,
    chatSessionId: row.chat_session_id,
    status: row.status,
    messageId: row.message_id,
    retryOf: row.retry_of_id,
    attempt: row.attempt,
    model: row.model,
    finishReason: row.finish_reason,
    // What attempts before came to, and what one that goes on may come to, is noted in the row as well.
    usage:
      isAnswered(row.status) && row.input_tokens !== null && row.output_tokens !== null
        ? {
            inputTokens: row.input_tokens,
            outputTokens: row.output_tokens,
            estimated: row.is_usage_estimated,
          }
        : null,
    error: row.error_code === null ? null : { code: row.error_code, detail: ERROR_DETAILS[row.error_code] },
    createdAt: isoTime(row.created_at),
    startedAt: isoTimeOrNull(row.started_at),
    firstTokenAt: isoTimeOrNull(row.first_token_at),
    finishedAt: isoTimeOrNull(row.finished_at),
    characteristicsUsed:
      row.characteristics_used === null || row.characteristics_of === null
        ? null
        : { used: row.characteristics_used, of: row.characteristics_of },
  };
}

/** The pause between two attempts. */
export interface ReplyDelay {
  /** A ReplyErrorCode or a LostReason. */
  reason: string;
  /** ISO 8601; null: as soon as a worker is free. */
  retryAt: string | null;
}

/** @returns null where an attempt goes on, or none has begun */
export function delayOf({ status, lease_token, past_attempts, available_at }: ReplyRow): ReplyDelay | null {
  const last = past_attempts.at(-1);
  if (status !== ReplyStatus.InProgress || lease_token !== null || last === undefined) return null;
  const retryAt = isoTimeOrNull(available_at);
  const isPaused = retryAt !== null && Date.parse(retryAt) > Date.parse(last.endedAt) + CLOCK_GRAIN_MS;
  return { reason: last.reason, retryAt: isPaused ? retryAt : null };
}

/** The reply as it was when it was queued, for telling that again later. */
export function asQueued(reply: ReplyDto): ReplyDto {
  return {
    ...reply,
    status: ReplyStatus.Queued,
    messageId: null,
    attempt: 0,
    model: null,
    finishReason: null,
    usage: null,
    error: null,
    startedAt: null,
    firstTokenAt: null,
    finishedAt: null,
    characteristicsUsed: null,
  };
}
