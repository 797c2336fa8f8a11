import { Controller, Get, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiOperation, ApiProperty, ApiQuery, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import type { Person } from '../auth/identity-tokens.js';
import { VouchedFor } from '../auth/principal.js';
import { ApiIdParam, IdParam, isId } from '../http/id-param.js';
import { ApiPage, PAGE_PROBLEMS } from '../http/page-api.js';
import { type Page, PageQuery, type PageRequest } from '../http/page.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { notFound } from '../runtime/app-error.js';
import { ChatSessionDto } from './chat-session.dto.js';
import { GuestSessionsService } from './guest-sessions.service.js';

class SessionTokenDto {
  @ApiProperty({ description: 'A further token of the session, given this once: for another device.' })
  token!: string;
}

/** What people do whom the owner of a chatbot has vouched for. */
@ApiTags('Sessions')
@Controller('v1/guest/sessions')
export class GuestSessionsController {
  constructor(private readonly sessions: GuestSessionsService) {}

  @Get()
  @Access('person')
  @ApiOperation({
    summary: 'List a verified guest’s own sessions, most recently active first',
    description: 'Of the chatbot that the token is for, on whatever device they were opened.',
    operationId: 'listGuestSessions',
  })
  @ApiQuery({
    name: 'chatbotId',
    required: false,
    description: 'The chatbot that the token is for; any other has none of them.',
    schema: { type: 'string', format: 'uuid' },
  })
  @ApiPage(ChatSessionDto, 'A page of sessions.')
  @ApiProblems('unauthorized', 'not_found', ...PAGE_PROBLEMS)
  list(
    @VouchedFor() person: Person,
    @Query('chatbotId') chatbotId: unknown,
    @PageQuery() page: PageRequest,
  ): Promise<Page<ChatSessionDto>> {
    if (chatbotId !== undefined && !(isId(chatbotId) && chatbotId.toLowerCase() === person.chatbotId)) {
      throw notFound();
    }
    return this.sessions.list(person, page);
  }

  @Post(':id/token')
  @Access('person')
  @ApiOperation({
    summary: 'Go on with a session on another device',
    description: 'A session has at most twenty tokens: of more, the oldest ends.',
    operationId: 'createSessionToken',
  })
  @ApiIdParam('session')
  @ApiCreatedResponse({ type: SessionTokenDto, description: 'The token.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  async createToken(@VouchedFor() person: Person, @IdParam() id: string): Promise<SessionTokenDto> {
    return { token: await this.sessions.createToken(person, id) };
  }
}
