import { Body, Controller, Delete, Get, Headers, HttpCode, Post, Res } from '@nestjs/common';
import {
  ApiBody,
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import type { Response } from 'express';
import { Access } from '../auth/access.js';
import { Caller, Owner, type Principal } from '../auth/principal.js';
import { Origin, type RequestOrigin } from '../http/request-origin.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiPage, PAGE_PROBLEMS } from '../http/page-api.js';
import { type Page, PageQuery, type PageRequest } from '../http/page.js';
import { ErasureService } from '../conversations/erasure.service.js';
import { EVENT_CURSOR_HEADER, eventCursorHeader } from '../http/event-cursor-header.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { markIds } from '../logging/request-ids.js';
import { ChatSessionDto, OpenSessionDto } from './chat-session.dto.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { Identities } from './identities.js';
import { OpenedSessionDto } from './opened-session.dto.js';
import { SessionOpeningService } from './session-opening.service.js';

@ApiTags('Sessions')
@Controller('v1')
export class ChatSessionsController {
  constructor(
    private readonly sessions: ChatSessionsService,
    private readonly identities: Identities,
    private readonly opening: SessionOpeningService,
    private readonly erasure: ErasureService,
  ) {}

  @Post('chatbots/:id/sessions')
  @Access('public')
  @ApiOperation({
    summary: 'Open a session with a chatbot',
    description:
      'For anybody; the body may be left out. The token in the answer is given this once. With a token that the chatbot’s owner signed for the person who asks (*Verified guests*), the session is that person’s; a chatbot with `requireIdentity` opens no others.',
    operationId: 'openSession',
    security: [{}, { identity: [] }],
  })
  @ApiIdParam('chatbot')
  @ApiBody({ type: OpenSessionDto, required: false })
  @ApiCreatedResponse({
    type: OpenedSessionDto,
    description: 'The session, its token, and the greeting.',
    headers: eventCursorHeader,
  })
  @ApiProblems('unauthorized', 'chatbot_disabled', 'not_found', ...BODY_PROBLEMS)
  async open(
    @IdParam() id: string,
    @Origin() { address }: RequestOrigin,
    @Body() body: OpenSessionDto,
    @Headers('authorization') authorization: string | undefined,
    @Res({ passthrough: true }) response: Response,
  ): Promise<OpenedSessionDto> {
    const person = await this.identities.personIn(authorization, id);
    const { opened, cursor } = await this.opening.open(id, body, person, address);
    response.setHeader(EVENT_CURSOR_HEADER, cursor);
    markIds(response, { sessionId: opened.session.id });
    return opened;
  }

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
  @ApiProblems('invalid_request', 'unauthorized', 'not_found')
  get(@Caller() caller: Principal, @IdParam() id: string): Promise<ChatSessionDto> {
    return this.sessions.get(caller, id);
  }

  @Delete('sessions/:id')
  @Access('owner')
  @HttpCode(204)
  @ApiOperation({
    summary: 'Delete a session everywhere',
    description:
      'Its messages, replies, jobs and events go; its tokens end; its guest goes with the last session.',
    operationId: 'deleteSession',
  })
  @ApiIdParam('session')
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  deleteSession(@Owner() owner: string, @IdParam() id: string): Promise<void> {
    return this.erasure.deleteSession(owner, id);
  }
}
