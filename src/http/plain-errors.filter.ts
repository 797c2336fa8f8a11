import { Catch } from '@nestjs/common';
import type { Response } from 'express';
import type { AppError } from '../runtime/app-error.js';
import { ProblemFilter } from './problem.filter.js';

export const ERROR_CODE_HEADER = 'X-Error-Code';

/** For clients that show the body of an error to people: its detail as plain text, and its code in a header. */
@Catch()
export class PlainErrorsFilter extends ProblemFilter {
  protected override send(response: Response, error: AppError): void {
    response.setHeader(ERROR_CODE_HEADER, error.code);
    response.type('text/plain').send(error.detail);
  }
}
