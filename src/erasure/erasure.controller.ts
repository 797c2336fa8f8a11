import { Body, Controller, Delete, HttpCode, Post } from '@nestjs/common';
import { ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { Owner } from '../auth/principal.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { ErasureService, type Person } from '../conversations/erasure.service.js';
import { AppError } from '../runtime/app-error.js';
import { ErasedDto, ErasePersonDto } from './erasure.dto.js';

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

  @Post('erasures')
  @Access('owner')
  @HttpCode(200)
  @ApiTags('Guests')
  @ApiOperation({
    summary: 'Erase a person',
    description:
      'A person may have come back often, each time as another guest: all of them go, with their sessions, as by *Erase a guest*. Who is not there is erased already.',
    operationId: 'erasePerson',
  })
  @ApiOkResponse({ type: ErasedDto, description: 'How many are gone.' })
  @ApiProblems('unauthorized', ...BODY_PROBLEMS)
  erasePerson(@Owner() owner: string, @Body() body: ErasePersonDto): Promise<ErasedDto> {
    return this.erasure.deletePerson(owner, personOf(body));
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

/** @throws AppError invalid_request where it is neither one nor the other */
function personOf({ email, chatbotId, externalId }: ErasePersonDto): Person {
  if (email !== undefined && chatbotId === undefined && externalId === undefined) return { email };
  if (email === undefined && chatbotId !== undefined && externalId !== undefined) {
    return { chatbotId, externalId };
  }
  throw new AppError('invalid_request', 'Name a person by email, or by chatbotId and externalId.', {
    errors: [{ pointer: '', message: 'must have email alone, or chatbotId and externalId' }],
  });
}
