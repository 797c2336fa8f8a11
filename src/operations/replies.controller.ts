import { Controller, Get, Req } from '@nestjs/common';
import {
  ApiExtraModels,
  ApiOkResponse,
  ApiOperation,
  ApiProperty,
  ApiSecurity,
  ApiTags,
} from '@nestjs/swagger';
import type { Request } from 'express';
import { Access } from '../auth/access.js';
import { LifeStepName, type ReplyLife, ReplyLives } from '../conversations/reply-life.js';
import { ReplyDto } from '../conversations/reply.dto.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiProblems } from '../http/problem-api.js';
import { AppError, notFound } from '../runtime/app-error.js';
import { BLOCKED_SECONDS, OperatorDoor, Visitor } from './operator-door.js';

class LifeStepDto {
  @ApiProperty({ format: 'date-time' })
  at!: string;
  @ApiProperty({ enum: LifeStepName, enumName: 'LifeStepName' })
  step!: LifeStepName;
  @ApiProperty({ type: 'integer', minimum: 1, nullable: true })
  attempt!: number | null;
  @ApiProperty({ type: String, nullable: true, description: 'Host and process id of the worker.' })
  worker!: string | null;
  @ApiProperty({ type: String, nullable: true })
  model!: string | null;
  @ApiProperty({
    type: String,
    nullable: true,
    description:
      'An error code, `worker_lost`, `worker_stopped`, why the text ended, or with `told` the type of the event.',
  })
  reason!: string | null;
  @ApiProperty({ type: String, nullable: true, description: 'Who asked for it: `guest` or `owner`.' })
  actor!: string | null;
}

class ReplyLifeDto {
  @ApiProperty({ type: ReplyDto })
  reply!: ReplyDto;
  @ApiProperty({ type: [LifeStepDto], description: 'In order.' })
  steps!: LifeStepDto[];
}

@ApiTags('Operations')
@Controller('admin/replies')
@ApiExtraModels(ReplyLifeDto)
export class OperatorsRepliesController {
  constructor(
    private readonly lives: ReplyLives,
    private readonly door: OperatorDoor,
  ) {}

  @Get(':id')
  @Access('public')
  @ApiOperation({
    summary: 'What happened to a reply',
    description:
      'Its life in order, without any text, with the events that were told of it in the last hour: for operators, by the credentials of the queue board. Without those there is nothing here.',
    operationId: 'getReplyLife',
  })
  @ApiSecurity('operator')
  @ApiIdParam('reply')
  @ApiOkResponse({ type: ReplyLifeDto, description: 'The reply, and what happened to it.' })
  @ApiProblems('unauthorized', 'not_found', 'rate_limited')
  async get(@Req() request: Request, @IdParam() id: string): Promise<ReplyLife> {
    if (!this.door.exists) throw notFound();
    const visitor = await this.door.judge(request);
    if (visitor === Visitor.Blocked) {
      throw new AppError('rate_limited', 'Too many wrong passwords. Wait a minute.', {
        retryAfterSeconds: BLOCKED_SECONDS,
      });
    }
    if (visitor === Visitor.Stranger) {
      throw new AppError('unauthorized', 'Operators only.', { scheme: 'Basic' });
    }
    const life = await this.lives.find(id);
    if (!life) throw notFound();
    return life;
  }
}
