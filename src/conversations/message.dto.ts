import { ApiProperty } from '@nestjs/swagger';
import { type RawBuilder, sql } from 'kysely';
import { isoTime } from '../database/database.js';
import type { Row } from '../database/tables.js';
import { MessageSender } from './message.entity.js';

export class MessageDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty({ format: 'uuid' })
  chatSessionId!: string;
  @ApiProperty({
    type: 'integer',
    minimum: 1,
    description: 'Numbers the messages of a session 1, 2, 3… Order by it.',
  })
  sequence!: number;
  @ApiProperty({ enum: MessageSender, enumName: 'MessageSender' })
  sender!: MessageSender;
  @ApiProperty()
  content!: string;
  @ApiProperty({
    type: String,
    format: 'uuid',
    nullable: true,
    description:
      'Of a user message: the reply that answers it. Of an AI message: the reply that wrote it; null for a greeting.',
  })
  replyId!: string | null;
  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
  @ApiProperty({
    type: String,
    nullable: true,
    description: 'The sender’s own id of it, where it gave one; unique in the session.',
  })
  clientMessageId!: string | null;
  @ApiProperty({
    type: String,
    format: 'uuid',
    nullable: true,
    description:
      'Of an AI message: the reply that was made instead, by a retry that has completed. Do not show it.',
  })
  supersededBy!: string | null;
}

export type MessageRow = Row<'messages'>;

/** The activity time of a session that has just counted a message; the message gets the same one. */
export const timeOfNewest = (sessionId: string): RawBuilder<string> =>
  sql`(select last_message_at from chat_sessions where id = ${sessionId})`;

export function toMessageDto(row: MessageRow): MessageDto {
  return {
    id: row.id,
    chatSessionId: row.chat_session_id,
    sequence: row.sequence,
    sender: row.sender,
    content: row.content,
    replyId: row.reply_id,
    createdAt: isoTime(row.created_at),
    clientMessageId: row.client_message_id,
    supersededBy: row.superseded_by,
  };
}
