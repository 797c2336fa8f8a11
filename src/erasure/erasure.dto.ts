import { ApiProperty } from '@nestjs/swagger';
import { IsUUID, ValidateIf } from 'class-validator';
import { Text } from '../http/text.js';

/** Whom to erase: by `email`, or by `chatbotId` and `externalId`. */
export class ErasePersonDto {
  @Text({
    maxLength: 255,
    isTrimmed: true,
    presence: 'optional',
    description: 'Every guest of the owner with this address, whatever its case, of all chatbots.',
  })
  email?: string;
  @ApiProperty({ format: 'uuid', required: false, description: 'Together with `externalId`.' })
  @ValidateIf((_, value: unknown) => value !== undefined)
  @IsUUID('all', { message: 'must be the id of a chatbot' })
  chatbotId?: string;
  @Text({
    maxLength: 255,
    presence: 'optional',
    description: 'The owner’s own id of the person, in one chatbot.',
  })
  externalId?: string;
}

export class ErasedDto {
  @ApiProperty({ type: 'integer', minimum: 0 })
  guests!: number;
  @ApiProperty({ type: 'integer', minimum: 0 })
  sessions!: number;
}
