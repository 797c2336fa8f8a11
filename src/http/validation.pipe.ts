import { ValidationPipe } from '@nestjs/common';
import type { ValidationError } from 'class-validator';
import { AppError, type FieldError } from '../runtime/app-error.js';

/** At most so many problems are named: enough to mend a form, no more than that. */
const MAX_ERRORS = 50;

function* flatten(errors: readonly ValidationError[], parent: string): Generator<FieldError> {
  for (const error of errors) {
    const pointer = `${parent}/${error.property.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    for (const [rule, message] of Object.entries(error.constraints ?? {})) {
      yield {
        pointer,
        message:
          rule === 'whitelistValidation'
            ? 'is not a field of this request'
            : message.replace(`${error.property} `, ''),
      };
    }
    yield* flatten(error.children ?? [], pointer);
  }
}

/** Checks request bodies against their DTOs; unknown fields are refused, by name. */
export function createValidationPipe(): ValidationPipe {
  return new ValidationPipe({
    transform: true,
    whitelist: true,
    forbidNonWhitelisted: true,
    forbidUnknownValues: true,
    validationError: { target: false, value: false },
    exceptionFactory: (errors) => {
      const found: FieldError[] = [];
      for (const error of flatten(errors, '')) if (found.push(error) >= MAX_ERRORS) break;
      return new AppError(
        'invalid_request',
        found.length === 1 ? 'The body has 1 problem.' : `The body has ${found.length} problems.`,
        { errors: found },
      );
    },
  });
}
