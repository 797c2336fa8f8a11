import { Text } from '../http/text.js';

/** The longest message, in code points. */
const MAX_MESSAGE_LENGTH = 8_000;

export class CreateMessageDto {
  @Text({ maxLength: MAX_MESSAGE_LENGTH, description: 'Kept exactly as sent.' })
  content!: string;
}
