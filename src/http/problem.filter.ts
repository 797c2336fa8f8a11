import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { AppError, type FieldError, PROBLEM_CODES, type ProblemCode } from '../runtime/app-error.js';
import { LIMIT_NAMES, type LimitName } from '../limits/limit-names.js';
import { isDatabaseUnavailable } from '../database/database-errors.js';
import { markRefusedToken } from '../logging/request-ids.js';
import type { PartHealth } from '../runtime/readiness.js';

class FieldErrorDto {
  @ApiProperty({ description: 'JSON pointer into the body, or the name of the parameter or header.' })
  pointer!: string;
  @ApiProperty()
  message!: string;
}

export class PartHealthDto {
  @ApiProperty({ example: 'database' })
  name!: string;
  @ApiProperty({ enum: ['up', 'down'] })
  status!: 'up' | 'down';
  @ApiProperty({ required: false, description: 'Why it is down.', example: 'error ECONNREFUSED' })
  reason?: string;
}

export class BuildDto {
  @ApiProperty({ example: '1.0.0' })
  version!: string;
  @ApiProperty({ description: '`unknown` where nothing says it.' })
  commit!: string;
}

/** RFC 9457 problem document: the body of every error. */
export class ProblemDto {
  @ApiProperty({
    enum: ['about:blank'],
    description: 'The title says all that there is to know of the type.',
  })
  type!: string;
  @ApiProperty({ description: 'What went wrong, in general: one sentence per code, for people.' })
  title!: string;
  @ApiProperty({ type: 'integer', description: 'The HTTP status of this response.' })
  status!: number;
  @ApiProperty({ description: 'What went wrong this time, for people.' })
  detail!: string;
  @ApiProperty({
    enum: PROBLEM_CODES,
    description: 'What went wrong, for programs: stable, and the field to branch on.',
  })
  code!: ProblemCode;
  @ApiProperty({ description: 'The X-Request-Id of this response.' })
  requestId!: string;
  @ApiProperty({
    type: [FieldErrorDto],
    required: false,
    description: 'Only for validation errors: each thing that is wrong.',
  })
  errors?: FieldError[];
  @ApiProperty({
    enum: LIMIT_NAMES,
    required: false,
    description: 'Only with `rate_limited`: which limit was reached.',
  })
  limit?: LimitName;
  @ApiProperty({
    type: [PartHealthDto],
    required: false,
    description: 'Only for a process that is not ready, and only for operators.',
  })
  parts?: readonly PartHealth[];
  @ApiProperty({ type: BuildDto, required: false, description: 'As `parts`: which program it is.' })
  build?: BuildDto;
}

/** The document that tells a client of an error. */
export const problemOf = (error: AppError, requestId: string): ProblemDto => ({
  type: 'about:blank',
  title: error.title,
  status: error.status,
  detail: error.detail,
  code: error.code,
  requestId,
  ...(error.options.errors && { errors: error.options.errors }),
  ...(error.options.limit !== undefined && { limit: error.options.limit as LimitName }),
  ...(error.options.parts && { parts: error.options.parts }),
  ...(error.options.build && { build: error.options.build }),
});

/** The one place where an error becomes a response. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  catch(thrown: unknown, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<Response>();
    const request = host.switchToHttp().getRequest<Request>();
    const error = toAppError(thrown);
    // Not being ready has no cause of its own: it is an answer, not a failure.
    const isAnswer = error.code === 'service_unavailable' && error.options.cause === undefined;
    if (error.status >= 500 && !isAnswer) {
      response.err = (error.options.cause ?? error) as Error; // for the one line of the request in the log
    }
    if (error.options.refusedToken) markRefusedToken(response, error.options.refusedToken);
    if (response.headersSent) {
      response.end(); // a stream that has begun cannot become a problem document
      return;
    }
    if (error.code === 'unauthorized') {
      const { challenge, scheme = 'Bearer' } = error.options;
      const reason =
        challenge && `, error="${challenge.error}", error_description="${challenge.description}"`;
      response.setHeader('WWW-Authenticate', `${scheme} realm="assistly"${reason ?? ''}`);
    }
    if (error.options.retryAfterSeconds !== undefined) {
      response.setHeader('Retry-After', String(error.options.retryAfterSeconds));
    }
    response.status(error.status);
    this.send(response, error, String(request.id));
  }

  /** Writes the body of an answer whose status and headers are set. */
  protected send(response: Response, error: AppError, requestId: string): void {
    response.type('application/problem+json').send(JSON.stringify(problemOf(error, requestId)));
  }
}

function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  if (isDatabaseUnavailable(thrown)) {
    return new AppError('service_unavailable', 'The database does not answer. Try again in a moment.', {
      cause: thrown,
      retryAfterSeconds: 1,
    });
  }
  const status = thrown instanceof HttpException ? thrown.getStatus() : statusOf(thrown);
  // Unknown routes, and paths whose percent-encoding is broken, which no thing can have.
  if (status === 404 || thrown instanceof URIError || status === 400) {
    return new AppError('not_found', 'There is nothing here.', { cause: thrown });
  }
  return new AppError('internal_error', 'The error is logged under this request id.', { cause: thrown });
}

/** Express marks the errors of its own making with a status. */
function statusOf(thrown: unknown): number | undefined {
  return typeof thrown === 'object' &&
    thrown !== null &&
    'status' in thrown &&
    typeof thrown.status === 'number'
    ? thrown.status
    : undefined;
}
