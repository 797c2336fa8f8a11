import { ApiProperty } from '@nestjs/swagger';
import { ChatSessionDto } from './chat-session.dto.js';
import { MessageDto } from '../conversations/message.dto.js';

export class OpenedSessionDto {
  @ApiProperty({ type: ChatSessionDto })
  session!: ChatSessionDto;
  @ApiProperty({
    description: 'The session token, given this once: the guest’s credential for this session.',
  })
  token!: string;
  @ApiProperty({ type: [MessageDto], description: 'Holds the greeting, when the chatbot has one.' })
  messages!: MessageDto[];
}
