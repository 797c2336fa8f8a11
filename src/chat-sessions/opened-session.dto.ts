import { ApiProperty } from '@nestjs/swagger';
import { ChatSessionDto } from './chat-session.dto.js';
import { MessageDto } from '../conversations/message.dto.js';
import { ReplyDto } from '../conversations/reply.dto.js';

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

export class PostedMessageDto {
  @ApiProperty({ type: MessageDto })
  message!: MessageDto;
  @ApiProperty({
    type: ReplyDto,
    description: 'The reply that will answer it; several messages may share one.',
  })
  reply!: ReplyDto;
}

export class EventTokenDto {
  @ApiProperty({ description: 'For ?token= of the events route.' })
  token!: string;
  @ApiProperty({ format: 'date-time' })
  expiresAt!: string;
}
