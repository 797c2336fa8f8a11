import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProperty, ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import { AppError } from '../common/app-error.js';
import { ApiProblems } from '../common/problem-api.js';
import { Readiness } from '../common/readiness.js';
import { Shutdown } from '../common/shutdown.js';

class HealthDto {
  @ApiProperty({ enum: ['ok'] })
  status!: 'ok';
}

@ApiTags('Operations')
@Controller('health')
export class HealthController {
  constructor(
    private readonly readiness: Readiness,
    private readonly shutdown: Shutdown,
  ) {}

  @Get('live')
  @Access('public')
  @ApiOperation({ summary: 'Whether the process runs', operationId: 'getLiveness' })
  @ApiOkResponse({ type: HealthDto })
  live(): HealthDto {
    return { status: 'ok' };
  }

  @Get('ready')
  @Access('public')
  @ApiOperation({ summary: 'Whether the process may be given work', operationId: 'getReadiness' })
  @ApiOkResponse({ type: HealthDto })
  @ApiProblems()
  async ready(): Promise<HealthDto> {
    if (this.shutdown.signal.aborted) throw new AppError('service_unavailable', 'The process is stopping.');
    const missing = await this.readiness.missing();
    if (missing.length > 0) {
      throw new AppError('service_unavailable', `Not ready. Missing: ${missing.join(', ')}.`);
    }
    return { status: 'ok' };
  }
}
