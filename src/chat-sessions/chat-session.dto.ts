import { ApiProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsObject, ValidateIf, ValidateNested } from 'class-validator';
import type { SelectedSession } from '../auth/selected-session.js';
import { isoTime, isoTimeOrNull } from '../database/database.js';
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

export function toChatSessionDto(row: SelectedSession): ChatSessionDto {
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
            external_id: row.guest_external_id,
          })
        : null,
    createdAt: isoTime(row.created_at),
    lastMessageAt: isoTimeOrNull(row.last_message_at),
    messageCount: row.message_count,
  };
}
