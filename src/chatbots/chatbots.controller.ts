import { Body, Controller, Delete, Get, HttpCode, Patch, Post, Res } from '@nestjs/common';
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
import { Owner } from '../auth/principal.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { LargeBody } from '../http/json-body.interceptor.js';
import { locationHeader } from '../http/location-header.js';
import { ApiPage, PAGE_PROBLEMS } from '../http/page-api.js';
import { type Page, PageQuery, type PageRequest } from '../http/page.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import type { IdempotentRequest } from '../database/idempotency.js';
import { Idempotent, markReplay } from '../http/idempotent.js';
import { ApiIdempotent, IDEMPOTENCY_PROBLEMS, replayedHeader } from '../http/idempotency-api.js';
import {
  CharacteristicContentDto,
  ChatbotCharacteristicDto,
  ChatbotDto,
  ChatbotSummaryDto,
  CreateChatbotDto,
  PublicChatbotDto,
  UpdateChatbotDto,
} from './chatbot.dto.js';
import { IdentitySecretDto, RotateIdentitySecretDto } from './identity-secret.dto.js';
import { ChatbotsService } from './chatbots.service.js';

@ApiTags('Chatbots')
@Controller('v1/chatbots')
export class ChatbotsController {
  constructor(private readonly chatbots: ChatbotsService) {}

  @Post()
  @Access('owner')
  @LargeBody(CreateChatbotDto)
  @ApiOperation({ summary: 'Create a chatbot', operationId: 'createChatbot' })
  @ApiCreatedResponse({
    type: ChatbotDto,
    description: 'The chatbot, made now or by the first request with this idempotency key.',
    headers: { ...locationHeader('The path of the chatbot.'), ...replayedHeader },
  })
  @ApiIdempotent()
  @ApiProblems('unauthorized', 'not_found', 'limit_reached', ...BODY_PROBLEMS, ...IDEMPOTENCY_PROBLEMS)
  async create(
    @Owner() owner: string,
    @Body() body: CreateChatbotDto,
    @Idempotent() idempotent: IdempotentRequest | null,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ChatbotDto> {
    const { chatbot, isReplay } = await this.chatbots.create(owner, body, idempotent);
    markReplay(response, isReplay);
    response.location(`/v1/chatbots/${chatbot.id}`);
    return chatbot;
  }

  @Get()
  @Access('owner')
  @ApiOperation({ summary: 'List your chatbots, newest first', operationId: 'listChatbots' })
  @ApiPage(ChatbotSummaryDto, 'A page of chatbots, without their characteristics.')
  @ApiProblems('unauthorized', ...PAGE_PROBLEMS)
  list(@Owner() owner: string, @PageQuery() page: PageRequest): Promise<Page<ChatbotSummaryDto>> {
    return this.chatbots.list(owner, page);
  }

  @Get(':id')
  @Access('owner')
  @ApiOperation({ summary: 'Read a chatbot', operationId: 'getChatbot' })
  @ApiIdParam('chatbot')
  @ApiOkResponse({ type: ChatbotDto, description: 'The chatbot, with its characteristics.' })
  @ApiProblems('invalid_request', 'unauthorized', 'not_found')
  get(@Owner() owner: string, @IdParam() id: string): Promise<ChatbotDto> {
    return this.chatbots.get(owner, id);
  }

  @Patch(':id')
  @Access('owner')
  @LargeBody(UpdateChatbotDto)
  @ApiOperation({
    summary: 'Change a chatbot',
    description:
      'What is left out stays; null or a blank clears the greeting, the model and the instructions.',
    operationId: 'updateChatbot',
  })
  @ApiIdParam('chatbot')
  @ApiOkResponse({ type: ChatbotDto, description: 'The chatbot as it is now.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  update(@Owner() owner: string, @IdParam() id: string, @Body() body: UpdateChatbotDto): Promise<ChatbotDto> {
    return this.chatbots.update(owner, id, body);
  }

  @Get(':id/public')
  @Access('public')
  @ApiOperation({ summary: 'The public face of a chatbot', operationId: 'getPublicChatbot' })
  @ApiIdParam('chatbot')
  @ApiOkResponse({
    type: PublicChatbotDto,
    description: 'What a page needs to begin; nothing else.',
  })
  @ApiProblems('invalid_request', 'not_found')
  getPublic(@IdParam() id: string): Promise<PublicChatbotDto> {
    return this.chatbots.getPublic(id);
  }

  @Post(':id/identity-secret')
  @Access('owner')
  @ApiOperation({
    summary: 'Make the secret that vouches for guests',
    description:
      'Your own server signs with it (HS256) who a guest is: a JWT with `sub`, your id of the person, `exp` at most 30 days ahead, `aud` the id of the chatbot, and `name` and `email` if you like. The secret is shown this once. The one before stays good for 24 hours, unless it is revoked.',
    operationId: 'createIdentitySecret',
  })
  @ApiIdParam('chatbot')
  @ApiBody({ type: RotateIdentitySecretDto, required: false })
  @ApiCreatedResponse({ type: IdentitySecretDto, description: 'The secret.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  async createIdentitySecret(
    @Owner() owner: string,
    @IdParam() id: string,
    @Body() { revokePrevious = false }: RotateIdentitySecretDto,
  ): Promise<IdentitySecretDto> {
    return { secret: await this.chatbots.rotateIdentitySecret(owner, id, revokePrevious) };
  }

  @Post(':id/characteristics')
  @Access('owner')
  @ApiOperation({ summary: 'Add a characteristic', operationId: 'createCharacteristic' })
  @ApiIdParam('chatbot')
  @ApiCreatedResponse({ type: ChatbotCharacteristicDto, description: 'The characteristic.' })
  @ApiProblems('unauthorized', 'not_found', 'limit_reached', ...BODY_PROBLEMS)
  addCharacteristic(
    @Owner() owner: string,
    @IdParam() id: string,
    @Body() body: CharacteristicContentDto,
  ): Promise<ChatbotCharacteristicDto> {
    return this.chatbots.addCharacteristic(owner, id, body.content);
  }

  @Get(':id/characteristics')
  @Access('owner')
  @ApiOperation({ summary: 'List the characteristics, oldest first', operationId: 'listCharacteristics' })
  @ApiIdParam('chatbot')
  @ApiPage(ChatbotCharacteristicDto, 'A page of characteristics.')
  @ApiProblems('unauthorized', 'not_found', ...PAGE_PROBLEMS)
  listCharacteristics(
    @Owner() owner: string,
    @IdParam() id: string,
    @PageQuery() page: PageRequest,
  ): Promise<Page<ChatbotCharacteristicDto>> {
    return this.chatbots.listCharacteristics(owner, id, page);
  }

  @Patch(':id/characteristics/:characteristicId')
  @Access('owner')
  @ApiOperation({ summary: 'Change a characteristic', operationId: 'updateCharacteristic' })
  @ApiIdParam('chatbot')
  @ApiIdParam('characteristic', 'characteristicId')
  @ApiOkResponse({ type: ChatbotCharacteristicDto, description: 'The characteristic as it is now.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  updateCharacteristic(
    @Owner() owner: string,
    @IdParam() id: string,
    @IdParam('characteristicId') characteristicId: string,
    @Body() body: CharacteristicContentDto,
  ): Promise<ChatbotCharacteristicDto> {
    return this.chatbots.updateCharacteristic(owner, id, characteristicId, body.content);
  }

  @Delete(':id/characteristics/:characteristicId')
  @Access('owner')
  @HttpCode(204)
  @ApiOperation({ summary: 'Delete a characteristic', operationId: 'deleteCharacteristic' })
  @ApiIdParam('chatbot')
  @ApiIdParam('characteristic', 'characteristicId')
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  deleteCharacteristic(
    @Owner() owner: string,
    @IdParam() id: string,
    @IdParam('characteristicId') characteristicId: string,
  ): Promise<void> {
    return this.chatbots.deleteCharacteristic(owner, id, characteristicId);
  }
}
