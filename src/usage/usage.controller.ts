import { Controller, Get, Query } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, ApiOperation, ApiQuery, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { Owner } from '../auth/principal.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiProblems } from '../http/problem-api.js';
import { AppError } from '../runtime/app-error.js';
import { UsageDto, UsageOfModelDto } from './usage.dto.js';
import { UsageService } from './usage.service.js';

const MAX_DAYS = 90;
const DEFAULT_DAYS = 30;

@ApiTags('Chatbots')
@Controller('v1/chatbots/:id/usage')
export class UsageController {
  constructor(private readonly usage: UsageService) {}

  @Get()
  @Access('owner')
  @ApiOperation({
    summary: 'See what a chatbot uses, by day',
    description:
      'It is what the budget of the day is counted by, and what bills of providers can be compared with. It stays when sessions are deleted.',
    operationId: 'getUsage',
  })
  @ApiIdParam('chatbot')
  @ApiQuery({
    name: 'days',
    required: false,
    description: 'How many days, today included.',
    schema: { type: 'integer', minimum: 1, maximum: MAX_DAYS, default: DEFAULT_DAYS },
  })
  @ApiExtraModels(UsageOfModelDto)
  @ApiOkResponse({ type: UsageDto, description: 'The use of each day.' })
  @ApiProblems('invalid_request', 'unauthorized', 'not_found')
  read(@Owner() owner: string, @IdParam() id: string, @Query('days') days: unknown): Promise<UsageDto> {
    return this.usage.read(owner, id, toDays(days));
  }
}

function toDays(text: unknown): number {
  if (text === undefined) return DEFAULT_DAYS;
  const days = typeof text === 'string' && /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (days >= 1 && days <= MAX_DAYS) return days;
  throw new AppError('invalid_request', `days must be a whole number from 1 to ${MAX_DAYS}.`, {
    errors: [{ pointer: 'days', message: `must be a whole number from 1 to ${MAX_DAYS}` }],
  });
}
