import { applyDecorators } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { ValidateIf } from 'class-validator';
import { originProblem } from '../runtime/origins.js';
import { Checked } from './checked.js';
import { takesAtMost } from './text.js';

const MAX_ORIGINS = 50;
/** The longest that a host name may be, with a scheme and a port around it. */
const MAX_LENGTH = 270;

/** A list of origins of web pages; may be left out. */
export function OriginList(description: string): PropertyDecorator {
  return applyDecorators(
    ApiProperty({
      type: 'array',
      items: {
        type: 'string',
        minLength: 1,
        maxLength: MAX_LENGTH,
        format: 'uri',
        example: 'https://www.example.com',
      },
      maxItems: MAX_ORIGINS,
      required: false,
      description,
    }),
    takesAtMost(MAX_ORIGINS * MAX_LENGTH),
    ValidateIf((_, value: unknown) => value !== undefined),
    Checked('areOrigins', firstProblem),
  );
}

function firstProblem(value: unknown): string | null {
  if (!Array.isArray(value)) return 'must be a list of strings';
  if (value.length > MAX_ORIGINS) return `must hold at most ${MAX_ORIGINS} items`;
  for (const [index, item] of value.entries()) {
    const problem =
      typeof item !== 'string' || item.length > MAX_LENGTH
        ? `must be a string of at most ${MAX_LENGTH} characters`
        : originProblem(item);
    if (problem !== null) return `item ${index} ${problem}`;
  }
  return null;
}
