import { ApiProperty } from '@nestjs/swagger';
import { IsUUID, ValidateIf } from 'class-validator';

export class ChatStopDto {
  @ApiProperty({
    type: String,
    format: 'uuid',
    required: false,
    description: 'The answer to be stopped, by the id of its reply; without it the one that is being made.',
  })
  @ValidateIf((_, value: unknown) => value !== undefined)
  @IsUUID(undefined, { message: 'must be the id of a reply' })
  messageId?: string;
}
