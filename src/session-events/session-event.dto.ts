import { applyDecorators, type Type } from '@nestjs/common';
import {
  ApiExtraModels,
  ApiOkResponse,
  ApiProduces,
  ApiProperty,
  getSchemaPath,
  type SchemaObject,
  type SchemasObject,
} from '@nestjs/swagger';
import { EventType } from '../events/event-stream.js';
import { MessageDto } from '../conversations/message.dto.js';
import { LostReason, ReplyErrorCode } from '../conversations/reply-status.js';
import { ReplyDto } from '../conversations/reply.dto.js';

/**
 * The events of a session for the OpenAPI document, each with its `data` parsed. Nothing makes instances of these:
 * what is sent is made in events/entries.ts and in the snapshot, and the tests hold it against these schemas.
 */

class MessageCreatedDataDto {
  @ApiProperty({ type: MessageDto })
  message!: MessageDto;
}

class ReplyQueuedDataDto {
  @ApiProperty({ type: ReplyDto })
  reply!: ReplyDto;
}

class ReplyStartedDataDto {
  @ApiProperty({ format: 'uuid' })
  replyId!: string;
  @ApiProperty({
    type: 'integer',
    minimum: 1,
    description: 'Higher than before: drop the text shown so far for this reply.',
  })
  attempt!: number;
}

class ReplyDeltaDataDto extends ReplyStartedDataDto {
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description: 'How many UTF-16 units (JavaScript’s `length`) of this attempt came before.',
  })
  offset!: number;
  @ApiProperty({ description: 'To be appended.' })
  text!: string;
}

export class ReplyDelayDto {
  @ApiProperty({
    enum: [...Object.values(ReplyErrorCode), ...Object.values(LostReason)],
    enumName: 'RetryReason',
    description:
      'An error code of replies; `worker_lost`: nothing more was heard of its worker; `worker_stopped`: its worker gave it back.',
  })
  reason!: string;
  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'When the next attempt may start; null: as soon as a worker is free.',
  })
  retryAt!: string | null;
}

class ReplyRetryingDataDto extends ReplyDelayDto {
  @ApiProperty({ format: 'uuid' })
  replyId!: string;
  @ApiProperty({ type: 'integer', minimum: 1, description: 'The attempt that is over.' })
  attempt!: number;
}

class ReplyCompletedDataDto {
  @ApiProperty({ type: ReplyDto })
  reply!: ReplyDto;
  @ApiProperty({
    type: MessageDto,
    description: 'Its content is exactly the text of the last attempt’s deltas.',
  })
  message!: MessageDto;
  @ApiProperty({
    type: [String],
    format: 'uuid',
    description: 'The AI messages that this one is instead of, after a retry: do not show them any more.',
  })
  superseded!: string[];
}

class ReplyCancelledDataDto {
  @ApiProperty({ type: ReplyDto })
  reply!: ReplyDto;
  @ApiProperty({
    type: MessageDto,
    nullable: true,
    description: 'The text shown so far; null where there was none.',
  })
  message!: MessageDto | null;
}

class ReplyFailedDataDto {
  @ApiProperty({ type: ReplyDto })
  reply!: ReplyDto;
  @ApiProperty({ type: 'null', description: 'A failed reply has no message.' })
  message!: null;
}

class SessionDeletedDataDto {}

export class SnapshotReplyDto extends ReplyDto {
  @ApiProperty({
    required: false,
    description: 'Only of an unfinished reply: what was shown so far, of the attempt that `attempt` names.',
  })
  text?: string;
  @ApiProperty({
    type: ReplyDelayDto,
    required: false,
    nullable: true,
    description:
      'Only of an unfinished reply: why there is a pause between two attempts; null: there is none.',
  })
  delay?: ReplyDelayDto | null;
}

class SessionSnapshotDataDto {
  @ApiProperty({ type: [MessageDto], maxItems: 50, description: 'The newest 50, by sequence.' })
  messages!: MessageDto[];
  @ApiProperty({ type: [SnapshotReplyDto], maxItems: 50, description: 'The newest 50, oldest first.' })
  replies!: SnapshotReplyDto[];
}

/** The `data` of each type of event. */
const EVENT_DATA: Record<EventType, Type> = {
  [EventType.MessageCreated]: MessageCreatedDataDto,
  [EventType.ReplyQueued]: ReplyQueuedDataDto,
  [EventType.ReplyStarted]: ReplyStartedDataDto,
  [EventType.ReplyDelta]: ReplyDeltaDataDto,
  [EventType.ReplyRetrying]: ReplyRetryingDataDto,
  [EventType.ReplyCompleted]: ReplyCompletedDataDto,
  [EventType.ReplyCancelled]: ReplyCancelledDataDto,
  [EventType.ReplyFailed]: ReplyFailedDataDto,
  [EventType.SessionDeleted]: SessionDeletedDataDto,
  [EventType.SessionSnapshot]: SessionSnapshotDataDto,
};

/** What each type of event tells. */
export const EVENT_DESCRIPTIONS: Record<EventType, string> = {
  [EventType.MessageCreated]:
    'A user message was posted. AI messages come with their reply, a greeting with its session.',
  [EventType.ReplyQueued]: 'A reply will come. Told once, also when more messages join it.',
  [EventType.ReplyStarted]:
    'An attempt begins to generate it. A higher attempt than before means: drop the text shown so far.',
  [EventType.ReplyDelta]: 'A piece of its text.',
  [EventType.ReplyRetrying]:
    'An attempt is over without an answer, and another will come: the answer is delayed. The text shown so far stays until that one starts.',
  [EventType.ReplyCompleted]: 'It is answered. Final.',
  [EventType.ReplyCancelled]: 'It was stopped. Final.',
  [EventType.ReplyFailed]: 'It failed, for the reason in `reply.error`. Final; it may be retried.',
  [EventType.SessionDeleted]: 'The session is gone, and the stream ends: close it, and do not come back.',
  [EventType.SessionSnapshot]:
    'The conversation as it is, where the cursor could not be continued from. Replace what you show by it; what follows may tell something that it already holds, so apply by id.',
};

/** `reply.delta` → `ReplyDeltaEvent` */
export const sessionEventName = (type: string): string =>
  `${type.replaceAll(/(?:^|\.)(\w)/g, (_, letter: string) => letter.toUpperCase())}Event`;

/** A schema for each type of event, and `SessionEvent` for any of them. */
export function sessionEventSchemas(): SchemasObject {
  const types = Object.values(EventType);
  const mapping = Object.fromEntries(
    types.map((type) => [type, `#/components/schemas/${sessionEventName(type)}`]),
  );
  return {
    SessionEvent: {
      description:
        'Any event of a session, with its `data` parsed. Ignore types that you do not know: within v1, some may be added.',
      oneOf: Object.values(mapping).map(($ref) => ({ $ref })),
      discriminator: { propertyName: 'event', mapping },
    },
    ...Object.fromEntries(
      types.map((type) => [
        sessionEventName(type),
        {
          type: 'object',
          title: sessionEventName(type),
          description: EVENT_DESCRIPTIONS[type],
          required: ['id', 'event', 'data'],
          properties: {
            id: { type: 'string', description: 'A cursor, opaque: the stream continues right after it.' },
            event: { type: 'string', enum: [type] },
            data: { $ref: getSchemaPath(EVENT_DATA[type]).replace(/Dto$/, '') },
          },
        },
      ]),
    ),
  };
}

/** Documents the stream: text on the wire, an array of events to whoever parses it. */
export function ApiEventStream() {
  return applyDecorators(
    ApiExtraModels(...Object.values(EVENT_DATA)),
    ApiProduces('text/event-stream'),
    ApiOkResponse({
      description:
        'The stream. It begins with `retry: 2000` and a block that has only an `id`, the cursor where it starts; then come blocks of `id`, `event` and `data`, which is JSON on one line. A comment goes out every 15 seconds. It ends after 15 minutes, when the process stops, or after `session.deleted`; in the first two cases come back with the last `id`.',
      headers: {
        'Cache-Control': {
          description: 'Nothing on the way may keep or change it.',
          required: true,
          schema: { type: 'string', enum: ['no-cache, no-transform'] },
        },
        'X-Accel-Buffering': {
          description: 'Asks nginx not to hold it back.',
          required: true,
          schema: { type: 'string', enum: ['no'] },
        },
      },
      schema: {
        type: 'string',
        contentMediaType: 'text/event-stream',
        contentSchema: { type: 'array', items: { $ref: '#/components/schemas/SessionEvent' } },
      } as SchemaObject, // JSON Schema's, which the type does not know
    }),
  );
}
