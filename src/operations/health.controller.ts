import { Controller, Get, Req } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProperty, ApiSecurity, ApiTags } from '@nestjs/swagger';
import type { Request } from 'express';
import { Access } from '../auth/access.js';
import { AppError } from '../runtime/app-error.js';
import { ApiProblems } from '../http/problem-api.js';
import { BuildDto, PartHealthDto } from '../http/problem.filter.js';
import { namesOfMissing, Readiness } from '../runtime/readiness.js';
import { Shutdown } from '../runtime/shutdown.js';
import { BuildInfo } from './build-info.js';
import { OperatorDoor, Visitor } from './operator-door.js';

class HealthDto {
  @ApiProperty({ enum: ['ok'] })
  status!: 'ok';
}

class ReadinessDto extends HealthDto {
  @ApiProperty({ type: [PartHealthDto], required: false, description: 'Only for operators.' })
  parts?: PartHealthDto[];
  @ApiProperty({ type: BuildDto, required: false, description: 'Only for operators.' })
  build?: BuildDto;
}

@ApiTags('Operations')
@Controller('health')
export class HealthController {
  constructor(
    private readonly readiness: Readiness,
    private readonly shutdown: Shutdown,
    private readonly buildInfo: BuildInfo,
    private readonly door: OperatorDoor,
  ) {}

  @Get('live')
  @Access('public')
  @ApiOperation({ summary: 'Whether the process runs', operationId: 'getLiveness' })
  @ApiOkResponse({ type: HealthDto, description: 'It runs.' })
  live(): HealthDto {
    return { status: 'ok' };
  }

  @Get('ready')
  @Access('public')
  @ApiOperation({
    summary: 'Whether the process may be given work',
    description:
      'Names what is missing. With the operator’s credentials also each part and why it is down, and which version this is; without them, or with wrong ones, it answers all the same.',
    operationId: 'getReadiness',
  })
  @ApiSecurity({})
  @ApiSecurity('operator')
  @ApiOkResponse({ type: ReadinessDto, description: 'It is ready.' })
  @ApiProblems()
  async ready(@Req() request: Request): Promise<ReadinessDto> {
    if (this.shutdown.signal.aborted) throw new AppError('service_unavailable', 'The process is stopping.');
    const [parts, visitor] = await Promise.all([this.readiness.look(), this.door.judge(request)]);
    const { version, commit } = this.buildInfo;
    const details = visitor === Visitor.Operator ? { parts, build: { version, commit } } : {};
    const missing = namesOfMissing(parts);
    if (missing.length > 0) {
      throw new AppError('service_unavailable', `Not ready. Missing: ${missing.join(', ')}.`, details);
    }
    return { status: 'ok', ...details };
  }
}
