import { Controller, Get, Query, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiQuery, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { Access } from '../auth/access.js';
import { Caller, type Principal } from '../auth/principal.js';
import { AppError } from '../common/app-error.js';
import { ApiIdParam, IdParam } from '../common/id-param.js';
import { ApiProblems } from '../common/problem-api.js';
import { RepliesService, MAX_WAIT_SECONDS } from './replies.service.js';
import { ReplyDto } from './reply.dto.js';

@ApiTags('Replies')
@Controller('v1/replies')
export class RepliesController {
  constructor(private readonly replies: RepliesService) {}

  @Get(':id')
  @Access('owner', 'guest')
  @ApiOperation({
    summary: 'Read a reply',
    description: 'With `wait`, answers when the reply is final, or after that many seconds.',
    operationId: 'getReply',
  })
  @ApiIdParam()
  @ApiQuery({
    name: 'wait',
    required: false,
    description: 'Seconds.',
    schema: { type: 'integer', minimum: 0, maximum: MAX_WAIT_SECONDS, default: 0 },
  })
  @ApiOkResponse({ type: ReplyDto })
  @ApiProblems(400, 401, 404)
  async get(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Query('wait') wait: unknown,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ReplyDto> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    return this.replies.wait(caller, id, toSeconds(wait), gone.signal);
  }
}

function toSeconds(wait: unknown): number {
  if (wait === undefined) return 0;
  if (typeof wait === 'string' && /^\d{1,2}$/.test(wait) && Number(wait) <= MAX_WAIT_SECONDS)
    return Number(wait);
  throw new AppError('invalid_request', `The wait must be 0 to ${MAX_WAIT_SECONDS} seconds.`, {
    errors: [{ pointer: 'wait', message: `must be a whole number from 0 to ${MAX_WAIT_SECONDS}` }],
  });
}
