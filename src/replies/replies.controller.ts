import { Controller, Get, HttpCode, Post, Query, Req, Res } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiQuery, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Access } from '../auth/access.js';
import { Caller, type Principal } from '../auth/principal.js';
import { AppError } from '../runtime/app-error.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { locationHeader } from '../http/location-header.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { markIds } from '../logging/request-ids.js';
import { clientGone } from '../http/client-gone.js';
import type { IdempotentRequest } from '../database/idempotency.js';
import { Idempotent, markReplay } from '../http/idempotent.js';
import { ApiIdempotent, IDEMPOTENCY_PROBLEMS, replayedHeader } from '../http/idempotency-api.js';
import { EVENT_CURSOR_HEADER, eventCursorHeader } from '../http/event-cursor-header.js';
import { RepliesService, MAX_WAIT_SECONDS } from './replies.service.js';
import { ReplyDto } from '../conversations/reply.dto.js';

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
  @ApiIdParam('reply')
  @ApiQuery({
    name: 'wait',
    required: false,
    description: 'Longest time to wait for its end, in seconds.',
    schema: { type: 'integer', minimum: 0, maximum: MAX_WAIT_SECONDS, default: 0 },
  })
  @ApiOkResponse({ type: ReplyDto, description: 'The reply as it is now.' })
  @ApiProblems('invalid_request', 'unauthorized', 'not_found', 'rate_limited')
  async get(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Query('wait') wait: unknown,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ReplyDto> {
    return this.replies.wait(caller, id, toSeconds(wait), clientGone(response));
  }

  @Post(':id/cancel')
  @HttpCode(200)
  @Access('owner', 'guest')
  @ApiOperation({
    summary: 'Stop a reply',
    description:
      'The call of the model is aborted; the text shown so far becomes the AI message; there is none if nothing was shown. The answer is the final reply. On a final reply it changes nothing.',
    operationId: 'cancelReply',
  })
  @ApiIdParam('reply')
  @ApiOkResponse({ type: ReplyDto, description: 'The reply, final by now.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  cancel(@Caller() caller: Principal, @IdParam() id: string): Promise<ReplyDto> {
    return this.replies.cancel(caller, id);
  }

  @Post(':id/retry')
  @HttpCode(202)
  @Access('owner', 'guest')
  @ApiOperation({
    summary: 'Ask again',
    description:
      'Makes a new reply for the messages of one that is final, if it is the latest of its session. What it answered stays in the history, and is not shown to the model; when the new one completes, it gets `supersededBy`. Until then, and where the new one fails or is stopped, an answer stays valid. A message that joins the new reply while it is queued makes it a reply as any other.',
    operationId: 'retryReply',
  })
  @ApiIdParam('reply')
  @ApiIdempotent()
  @ApiAcceptedResponse({
    type: ReplyDto,
    description: 'The new reply, stored and queued.',
    headers: {
      ...locationHeader('The path of the new reply.'),
      ...eventCursorHeader,
      ...replayedHeader,
    },
  })
  @ApiProblems(
    'unauthorized',
    'chatbot_disabled',
    'not_found',
    'reply_not_retryable',
    ...BODY_PROBLEMS,
    ...IDEMPOTENCY_PROBLEMS,
  )
  async retry(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Idempotent() idempotent: IdempotentRequest | null,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ReplyDto> {
    const { reply, cursor, isReplay } = await this.replies.retry(caller, id, String(request.id), idempotent);
    markReplay(response, isReplay);
    markIds(response, { sessionId: reply.chatSessionId, replyId: reply.id });
    response.setHeader(EVENT_CURSOR_HEADER, cursor);
    response.location(`/v1/replies/${reply.id}`);
    return reply;
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
