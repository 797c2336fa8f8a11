import { ApiProperty } from '@nestjs/swagger';
import { ReplyStatus } from '../conversations/reply-status.js';
import { ReplyUsageDto } from '../conversations/reply.dto.js';

class UiTextPartDto {
  @ApiProperty({ enum: ['text'] })
  type!: 'text';
  @ApiProperty()
  text!: string;
  @ApiProperty({ enum: ['done'] })
  state!: 'done';
}

/** What is told of a message beside its text. */
export class UiMessageMetadataDto {
  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
  @ApiProperty({ type: String, format: 'uuid', nullable: true, description: 'As `Message.replyId`.' })
  replyId!: string | null;
  @ApiProperty({
    enum: ReplyStatus,
    enumName: 'ReplyStatus',
    nullable: true,
    description: 'Of that reply. Null for a greeting.',
  })
  status!: ReplyStatus | null;
  @ApiProperty({ type: ReplyUsageDto, nullable: true, description: 'Of that reply, as `Reply.usage`.' })
  usage!: ReplyUsageDto | null;
}

/** A message as the AI SDK has it: its `UIMessage`. */
export class UiMessageDto {
  @ApiProperty({
    description:
      'Of a user’s message its `clientMessageId`, or where it has none its id; of an answer the id of its reply, under which its stream runs; of a greeting its id.',
  })
  id!: string;
  @ApiProperty({ enum: ['user', 'assistant'] })
  role!: 'user' | 'assistant';
  @ApiProperty({ type: UiMessageMetadataDto })
  metadata!: UiMessageMetadataDto;
  @ApiProperty({ type: [UiTextPartDto] })
  parts!: UiTextPartDto[];
}
