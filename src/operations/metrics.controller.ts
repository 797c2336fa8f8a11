import { Controller, Get, Inject, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiOkResponse, ApiOperation, ApiSecurity, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Access } from '../auth/access.js';
import { AppError } from '../runtime/app-error.js';
import { isSameSecret } from '../auth/operator.js';
import { ApiProblems } from '../http/problem-api.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Metrics } from '../metrics/metrics.js';

/** The beginning of a real answer. */
const EXAMPLE = `# HELP assistly_event_streams_open Event streams that clients have open.
# TYPE assistly_event_streams_open gauge
assistly_event_streams_open 1

# HELP assistly_workers Workers connected to the queue, as its store tells; absent where it does not tell.
# TYPE assistly_workers gauge
assistly_workers 2
`;

@ApiTags('Operations')
@Controller('metrics')
export class MetricsController {
  constructor(
    private readonly metrics: Metrics,
    @Inject(CONFIG) private readonly config: Pick<Config, 'METRICS_TOKEN' | 'isProduction'>,
  ) {}

  @Get()
  @Access('public')
  @ApiOperation({
    summary: 'What Prometheus reads',
    description:
      'Needs the METRICS_TOKEN where one is set; in production without one there is nothing here. On a worker it is on the port of its health checks.',
    operationId: 'getMetrics',
  })
  @ApiSecurity({})
  @ApiBearerAuth('metrics')
  @ApiOkResponse({
    description: 'Prometheus’ text format, version 0.0.4.',
    content: { 'text/plain': { schema: { type: 'string' }, example: EXAMPLE } },
  })
  @ApiProblems('unauthorized', 'not_found')
  async read(@Req() { headers }: Request, @Res() response: Response): Promise<void> {
    this.authorize(headers.authorization);
    const text = await this.metrics.scrape();
    response.setHeader('Content-Type', this.metrics.registry.contentType).end(text);
  }

  private authorize(authorization: string | undefined): void {
    const { METRICS_TOKEN: token, isProduction } = this.config;
    if (token === undefined) {
      if (isProduction) throw new AppError('not_found', 'There is nothing here.');
      return;
    }
    const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    if (!isSameSecret(bearer ?? '', token)) {
      throw new AppError('unauthorized', 'Send the METRICS_TOKEN as a bearer token.', {
        ...(bearer !== undefined && {
          challenge: { error: 'invalid_token', description: 'The token is not valid here' },
        }),
      });
    }
  }
}
