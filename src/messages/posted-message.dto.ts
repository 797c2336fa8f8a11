import { ApiProperty } from '@nestjs/swagger';
import { MessageDto } from '../conversations/message.dto.js';
import { ReplyDto } from '../conversations/reply.dto.js';

export class PostedMessageDto {
  @ApiProperty({ type: MessageDto })
  message!: MessageDto;
  @ApiProperty({
    type: ReplyDto,
    description: 'The reply that will answer it; several messages may share one.',
  })
  reply!: ReplyDto;
}
