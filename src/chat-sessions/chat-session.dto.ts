import { ApiProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsObject, ValidateIf, ValidateNested } from 'class-validator';
import { sql } from 'kysely';
import { isoTime, isoTimeOrNull, type TimeText } from '../database/database.js';
import { GuestDto, GuestInputDto, toGuestDto } from '../guests/guest.dto.js';

export class OpenSessionDto {
  @ApiProperty({ type: GuestInputDto, required: false, nullable: true, description: 'Left out: anonymous.' })
  @ValidateIf((_, value: unknown) => value !== undefined && value !== null)
  @IsObject({ message: 'must be an object' })
  @ValidateNested()
  @Type(() => GuestInputDto)
  guest?: GuestInputDto | null;
}

export class ChatSessionDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty({ format: 'uuid' })
  chatbotId!: string;
  @ApiProperty({ description: 'The chatbot’s name as it is now.' })
  chatbotName!: string;
  @ApiProperty({
    type: GuestDto,
    nullable: true,
    description: 'Null for a session that was opened without a guest.',
  })
  guest!: GuestDto | null;
  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'Null as long as nothing was said.',
  })
  lastMessageAt!: string | null;
  @ApiProperty({ type: 'integer', minimum: 0 })
  messageCount!: number;
}

/** A session with its chatbot's name and its guest, as {@link sessionColumns} selects it. */
export interface ChatSessionRow {
  id: string;
  chatbot_id: string;
  chatbot_name: string;
  guest_id: string | null;
  guest_name: string | null;
  guest_email: string | null;
  guest_created_at: TimeText | null;
  created_at: TimeText;
  last_message_at: TimeText | null;
  active_at: TimeText;
  message_count: number;
  event_token_key: string;
}

/** To be selected from {@link sessionTables}. */
export const sessionColumns = sql.raw(
  `s.id, s.chatbot_id, c.name as chatbot_name, s.guest_id, g.name as guest_name, g.email as guest_email,
   g.created_at as guest_created_at, s.created_at, s.last_message_at, s.active_at, s.message_count, s.event_token_key`,
);
export const sessionTables = sql.raw(
  'chat_sessions s join chatbots c on c.id = s.chatbot_id left join guests g on g.id = s.guest_id',
);

export function toChatSessionDto(row: ChatSessionRow): ChatSessionDto {
  return {
    id: row.id,
    chatbotId: row.chatbot_id,
    chatbotName: row.chatbot_name,
    guest:
      row.guest_id !== null && row.guest_created_at !== null
        ? toGuestDto({
            id: row.guest_id,
            name: row.guest_name,
            email: row.guest_email,
            created_at: row.guest_created_at,
          })
        : null,
    createdAt: isoTime(row.created_at),
    lastMessageAt: isoTimeOrNull(row.last_message_at),
    messageCount: row.message_count,
  };
}
