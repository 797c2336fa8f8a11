import { ApiProperty } from '@nestjs/swagger';
import { IsEmail, ValidateIf } from 'class-validator';
import { Text } from '../http/text.js';
import { isoTime } from '../database/database.js';
import type { Row } from '../database/tables.js';

/** What a guest may tell of itself when a session opens; a blank counts as not told. */
export class GuestInputDto {
  @Text({ maxLength: 255, isName: true, presence: 'clearable' })
  name?: string | null;
  @Text({
    maxLength: 255,
    isTrimmed: true,
    presence: 'clearable',
    format: 'email',
  })
  @ValidateIf((_, value: unknown) => value !== undefined && value !== null)
  @IsEmail({}, { message: 'must be an e-mail address' })
  email?: string | null;
}

export class GuestDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty({ type: String, nullable: true })
  name!: string | null;
  @ApiProperty({ type: String, nullable: true })
  email!: string | null;
  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
  @ApiProperty({
    type: String,
    nullable: true,
    description: 'The owner’s own id of the person; null: nobody has vouched for who it is.',
  })
  externalId!: string | null;
}

export function toGuestDto(row: Omit<Row<'guests'>, 'chatbot_id'>): GuestDto {
  return {
    id: row.id,
    name: row.name,
    email: row.email,
    createdAt: isoTime(row.created_at),
    externalId: row.external_id,
  };
}
