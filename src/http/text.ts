import { applyDecorators, type Type } from '@nestjs/common';
import { ApiProperty, type ApiPropertyOptions } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  registerDecorator,
  ValidateIf,
  type ValidationOptions,
} from 'class-validator';
import { NOT_IN_NAMES } from '../runtime/names.js';

/** Limits on text count Unicode code points, as people count characters, not UTF-16 units. */
function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** Whether a text has at most so many code points. */
export const hasAtMost = (maxLength: number, text: string): boolean =>
  text.length <= maxLength || (text.length <= 2 * maxLength && codePoints(text) <= maxLength);

/** For JSON Schema: what {@link isBlank} is not. */
const NOT_BLANK = '\\S';

const isBlank = (text: string): boolean => text.trim() === '';

/** Most bytes that JSON takes for a code point: two escapes of six, beyond U+FFFF. */
const BYTES_OF_CODE_POINT = 12;

/** For the name of a field, its quotes and colon, and some white space. */
const BYTES_AROUND_FIELD = 256;

/** For the quotes of an item of a list, its comma, and some white space. */
const BYTES_AROUND_ITEM = 32;

/** Of each DTO's prototype, the most bytes of each field. */
const fieldBytes = new WeakMap<object, Map<string, number>>();

/** Notes the most bytes that a field takes of a body. */
export const takesAtMost =
  (bytes: number): PropertyDecorator =>
  (target, property) => {
    const ofDto = fieldBytes.get(target) ?? new Map<string, number>();
    fieldBytes.set(target, ofDto.set(String(property), bytes));
  };

/** The size of the largest body that the limits of a DTO's texts allow, in bytes. */
export function mostBytesOf(dto: Type): number {
  let sum = BYTES_AROUND_FIELD;
  // With the fields that it has from its base classes.
  for (
    let at = dto.prototype as object | null;
    at !== null;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    for (const bytes of fieldBytes.get(at)?.values() ?? []) sum += bytes + BYTES_AROUND_FIELD;
  }
  return sum;
}

interface TextOptions {
  maxLength: number;
  /** Names and addresses are trimmed; contents are kept as sent. */
  isTrimmed?: boolean;
  /** A name: trimmed, on one line, and without what changes how the line reads. */
  isName?: boolean;
  /** `clearable`: null or a blank clears it. `optional`: may be left out. */
  presence?: 'required' | 'optional' | 'clearable';
  description?: string;
  format?: string;
}

function IsText(maxLength: number, options?: ValidationOptions): PropertyDecorator {
  return (target, property) => {
    registerDecorator({
      name: 'isText',
      target: target.constructor,
      propertyName: String(property),
      ...(options && { options }),
      validator: {
        validate: (value: unknown) =>
          typeof value === 'string' && !isBlank(value) && codePoints(value) <= maxLength,
        defaultMessage: (args) => {
          const value: unknown = args?.value;
          if (value === undefined || value === null || (typeof value === 'string' && isBlank(value))) {
            return 'is required and must not be blank';
          }
          return typeof value === 'string' ? `must be 1 to ${maxLength} characters long` : 'must be a string';
        },
      },
    });
  };
}

/** A text field of a request body: its rule, its normal form and its documentation in one place. */
export function Text(options: TextOptions): PropertyDecorator {
  const { maxLength, isName = false, isTrimmed = isName, presence = 'required' } = options;
  const api: ApiPropertyOptions = {
    type: String,
    minLength: presence === 'clearable' ? 0 : 1,
    maxLength,
    ...(presence !== 'clearable' && { pattern: NOT_BLANK }),
    required: presence === 'required',
    ...(presence === 'clearable' && { nullable: true }),
    ...(options.description && { description: options.description }),
    ...(options.format && { format: options.format }),
  };
  return applyDecorators(
    ApiProperty(api),
    takesAtMost(maxLength * BYTES_OF_CODE_POINT),
    Transform(({ value }: { value: unknown }) => {
      if (typeof value !== 'string') return value;
      if (presence === 'clearable' && isBlank(value)) return null;
      return isTrimmed ? value.trim() : value;
    }),
    ValidateIf(
      (_, value: unknown) =>
        !(presence === 'clearable' && value === null) && !(presence !== 'required' && value === undefined),
    ),
    IsText(maxLength),
    ...(isName ? [IsName()] : []),
  );
}

/** Joiners are no name by themselves. */
const VISIBLE = /[^\s\p{Cc}\p{Cf}\p{Z}]/u;

function IsName(): PropertyDecorator {
  return (target, property) => {
    registerDecorator({
      name: 'isName',
      target: target.constructor,
      propertyName: String(property),
      validator: {
        // What is no text, or blank, the other rule refuses.
        validate: (value: unknown) =>
          typeof value !== 'string' || isBlank(value) || (!NOT_IN_NAMES.test(value) && VISIBLE.test(value)),
        defaultMessage: () => 'must be one line, without control and format characters',
      },
    });
  };
}

/** A list of texts, each kept as sent; may be left out. */
export function TextList(options: {
  maxItems: number;
  maxLength: number;
  description: string;
}): PropertyDecorator {
  const { maxItems, maxLength, description } = options;
  return applyDecorators(
    ApiProperty({
      type: 'array',
      items: { type: 'string', minLength: 1, maxLength, pattern: NOT_BLANK },
      maxItems,
      required: false,
      description,
    }),
    takesAtMost(maxItems * (maxLength * BYTES_OF_CODE_POINT + BYTES_AROUND_ITEM)),
    ValidateIf((_, value: unknown) => value !== undefined),
    IsArray({ message: 'must be a list of strings' }),
    ArrayMaxSize(maxItems, { message: `must hold at most ${maxItems} items` }),
    IsText(maxLength, {
      each: true,
      message: `must hold strings of 1 to ${maxLength} characters, none of them blank`,
    }),
  );
}
