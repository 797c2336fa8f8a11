import { applyDecorators } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { ValidateIf } from 'class-validator';
import { Checked } from '../http/checked.js';
import { Text } from '../http/text.js';

/** The longest message, in code points. */
export const MAX_MESSAGE_LENGTH = 8_000;

const CLIENT_MESSAGE_ID = /^[\x21-\x7e]{1,255}$/;

/** What is wrong with a sender's own id of a message; null: nothing. */
export const clientMessageIdProblem = (value: unknown): string | null =>
  typeof value === 'string' && CLIENT_MESSAGE_ID.test(value)
    ? null
    : 'must be 1 to 255 visible ASCII characters';

const ClientMessageId = (): PropertyDecorator =>
  applyDecorators(
    ApiProperty({
      type: String,
      required: false,
      pattern: CLIENT_MESSAGE_ID.source,
      description:
        'The sender’s own id of the message, unique in the session for as long as the message lives: the same one again, with the same content, is answered with the message that is there and the reply that it has now.',
    }),
    ValidateIf((_, value: unknown) => value !== undefined),
    Checked('isClientMessageId', clientMessageIdProblem),
  );

export class CreateMessageDto {
  @Text({ maxLength: MAX_MESSAGE_LENGTH, description: 'Kept exactly as sent.' })
  content!: string;
  @ClientMessageId()
  clientMessageId?: string;
}
