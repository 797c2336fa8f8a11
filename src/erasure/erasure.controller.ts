import { Controller, Delete, HttpCode } from '@nestjs/common';
import { ApiNoContentResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { Owner } from '../auth/principal.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { ErasureService } from '../conversations/erasure.service.js';

/** Deletes what lies below conversations, and them with it: a chatbot, a guest. A session's own stands with the sessions. */
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
