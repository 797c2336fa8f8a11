import { applyDecorators } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { ValidateIf } from 'class-validator';
import { Checked } from './checked.js';

/** A field of a request body that is a whole number; null clears it, and it may be left out. */
export function WholeNumber({
  min,
  max,
  description,
}: {
  min: number;
  max: number;
  description: string;
}): PropertyDecorator {
  return applyDecorators(
    ApiProperty({
      type: 'integer',
      minimum: min,
      maximum: max,
      nullable: true,
      required: false,
      description,
    }),
    ValidateIf((_, value: unknown) => value !== undefined && value !== null),
    Checked('isWholeNumber', (value) =>
      Number.isInteger(value) && Number(value) >= min && Number(value) <= max
        ? null
        : `must be a whole number from ${min} to ${max}, or null`,
    ),
  );
}
