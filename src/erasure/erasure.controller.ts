import { Controller, Delete, HttpCode } from '@nestjs/common';
import { ApiNoContentResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { Owner } from '../auth/principal.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { ErasureService } from '../conversations/erasure.service.js';

/** Every deletion that takes conversations with it. */
@Controller('v1')
export class ErasureController {
  constructor(private readonly erasure: ErasureService) {}

  @Delete('chatbots/:id')
  @Access('owner')
  @HttpCode(204)
  @ApiTags('Chatbots')
  @ApiOperation({ summary: 'Delete a chatbot and all that hangs below it', operationId: 'deleteChatbot' })
  @ApiIdParam('chatbot')
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  deleteChatbot(@Owner() owner: string, @IdParam() id: string): Promise<void> {
    return this.erasure.deleteChatbot(owner, id);
  }

  @Delete('sessions/:id')
  @Access('owner')
  @HttpCode(204)
  @ApiTags('Sessions')
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

  @Delete('guests/:id')
  @Access('owner')
  @HttpCode(204)
  @ApiTags('Guests')
  @ApiOperation({ summary: 'Erase a guest and its sessions', operationId: 'deleteGuest' })
  @ApiIdParam('guest')
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  deleteGuest(@Owner() owner: string, @IdParam() id: string): Promise<void> {
    return this.erasure.deleteGuest(owner, id);
  }
}
