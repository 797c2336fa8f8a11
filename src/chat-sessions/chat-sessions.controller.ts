import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { Caller, Owner, type Principal } from '../auth/principal.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiPage, PAGE_PROBLEMS } from '../http/page-api.js';
import { type Page, PageQuery, type PageRequest } from '../http/page.js';
import { ApiProblems } from '../http/problem-api.js';
import { ChatSessionDto } from './chat-session.dto.js';
import { ChatSessionsService } from './chat-sessions.service.js';

@ApiTags('Sessions')
@Controller('v1')
export class ChatSessionsController {
  constructor(private readonly sessions: ChatSessionsService) {}

  @Get('chatbots/:id/sessions')
  @Access('owner')
  @ApiOperation({
    summary: 'List a chatbot’s sessions, most recently active first',
    operationId: 'listSessions',
  })
  @ApiIdParam('chatbot')
  @ApiPage(ChatSessionDto, 'A page of sessions.')
  @ApiProblems('unauthorized', 'not_found', ...PAGE_PROBLEMS)
  list(
    @Owner() owner: string,
    @IdParam() id: string,
    @PageQuery() page: PageRequest,
  ): Promise<Page<ChatSessionDto>> {
    return this.sessions.list(owner, id, page);
  }

  @Get('sessions/:id')
  @Access('owner', 'guest')
  @ApiOperation({ summary: 'Read a session', operationId: 'getSession' })
  @ApiIdParam('session')
  @ApiOkResponse({ type: ChatSessionDto, description: 'The session.' })
  @ApiProblems('unauthorized', 'not_found')
  get(@Caller() caller: Principal, @IdParam() id: string): Promise<ChatSessionDto> {
    return this.sessions.get(caller, id);
  }
}
