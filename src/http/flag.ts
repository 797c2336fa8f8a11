import { applyDecorators } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { IsBoolean, ValidateIf } from 'class-validator';

/** A field of a request body that is true or false, and may be left out. */
export function Flag(description: string): PropertyDecorator {
  return applyDecorators(
    ApiProperty({ type: Boolean, required: false, description }),
    ValidateIf((_, value: unknown) => value !== undefined),
    IsBoolean({ message: 'must be true or false' }),
  );
}
