import { applyDecorators } from '@nestjs/common';
import { ApiProperty, type ApiPropertyOptions, ApiPropertyOptional } from '@nestjs/swagger';
import { ValidateIf } from 'class-validator';
import { Checked } from '../http/checked.js';
import { takesAtMost } from '../http/text.js';
import {
  type LimitSettings,
  mostOf,
  OWN_HOLD_NAMES,
  OWN_RATE_NAMES,
  type OwnLimits,
} from '../limits/limit-names.js';

/** As settings have them. */
const MAX = 99_999_999;
const MAX_WINDOW_SECONDS = 999_999;
/** For all names, with their numbers. */
const MAX_BYTES = 4_096;

/** A chatbot's own limits as a body has them: null takes one away. */
export type WrittenLimits = { [Name in keyof OwnLimits]: OwnLimits[Name] | null };

const wholeNumber = (most: number) => ({ type: 'integer' as const, minimum: 1, maximum: most });
const RATE_SCHEMA = {
  type: 'object' as const,
  nullable: true,
  required: ['max', 'windowSeconds'],
  additionalProperties: false,
  properties: { max: wholeNumber(MAX), windowSeconds: wholeNumber(MAX_WINDOW_SECONDS) },
};
const HOLD_SCHEMA = {
  type: 'object' as const,
  nullable: true,
  required: ['max'],
  additionalProperties: false,
  properties: { max: wholeNumber(MAX) },
};
const SCHEMA = {
  type: 'object' as const,
  nullable: true,
  additionalProperties: false,
  properties: Object.fromEntries([
    ...OWN_RATE_NAMES.map((name) => [name, RATE_SCHEMA]),
    ...OWN_HOLD_NAMES.map((name) => [name, HOLD_SCHEMA]),
  ]),
  example: { messagesPerSession: { max: 20, windowSeconds: 60 } },
} satisfies ApiPropertyOptions;
const DESCRIPTION =
  'Its own limits, in the place of the server’s: at most so many in a window of so many seconds, which begins with the first; or at once. Null, and what it does not name: the server’s.';

/** What an answer shows of them. */
export const ApiOwnLimits = (): PropertyDecorator => ApiProperty({ ...SCHEMA, description: DESCRIPTION });

/** The field of a request body; null clears all of them, and it may be left out. */
export function OwnLimitsField(): PropertyDecorator {
  return applyDecorators(
    ApiPropertyOptional({
      ...SCHEMA,
      description: `${DESCRIPTION} A change keeps those that it does not name, and takes away those that are null. More than the server allows is refused.`,
    }),
    takesAtMost(MAX_BYTES),
    ValidateIf((_, value: unknown) => value !== undefined && value !== null),
    Checked('isOwnLimits', firstProblem),
  );
}

function firstProblem(value: unknown): string | null {
  if (!isObject(value)) return 'must be an object, or null';
  for (const [name, limit] of Object.entries(value)) {
    const isRate = OWN_RATE_NAMES.some((known) => known === name);
    if (!isRate && !OWN_HOLD_NAMES.some((known) => known === name)) {
      return `names a limit that there is not, or that is no chatbot’s: there are ${[...OWN_RATE_NAMES, ...OWN_HOLD_NAMES].join(', ')}`;
    }
    if (limit === null) continue;
    const fields = isRate ? ['max', 'windowSeconds'] : ['max'];
    const isWhole =
      isObject(limit) &&
      Object.keys(limit).length === fields.length &&
      isWithin(limit['max'], MAX) &&
      (!isRate || isWithin(limit['windowSeconds'], MAX_WINDOW_SECONDS));
    if (!isWhole) {
      const seconds = isRate ? `, windowSeconds: 1 to ${MAX_WINDOW_SECONDS}` : '';
      return `${name} must be { max: 1 to ${MAX}${seconds} } in whole numbers, or null`;
    }
  }
  return null;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isWithin = (value: unknown, most: number): boolean =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= most;

/** What is more than the operator allows; null: nothing. */
export function excessOf(limits: WrittenLimits, settings: LimitSettings): string | null {
  for (const name of OWN_RATE_NAMES) {
    const limit = limits[name];
    if (!limit) continue;
    const most = mostOf(settings, name, limit.windowSeconds);
    if (limit.max > most)
      return `${name} must be at most ${most} in ${limit.windowSeconds} seconds on this server`;
  }
  for (const name of OWN_HOLD_NAMES) {
    const limit = limits[name];
    const most = mostOf(settings, name);
    if (limit && limit.max > most) return `${name} must be at most ${most} on this server`;
  }
  return null;
}
