import { applyDecorators } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import { IsObject, ValidateIf, ValidateNested } from 'class-validator';
import { Checked } from '../http/checked.js';
import { takesAtMost, Text } from '../http/text.js';

/** Whether the page asks a guest for name and e-mail address. */
export const AskFor = { None: 'none', Optional: 'optional', Required: 'required' } as const;
export type AskFor = (typeof AskFor)[keyof typeof AskFor];

const COLOR = /^#[0-9A-Fa-f]{6}$/;
const MAX_AVATAR_URL_LENGTH = 2_048;
const MAX_TITLE_LENGTH = 100;
const MAX_SUGGESTIONS = 6;
const MAX_SUGGESTION_LENGTH = 200;

const DESCRIPTIONS = {
  color: 'The accent, as `#rrggbb`.',
  avatarUrl: 'A picture, by https.',
  title: 'What stands above the conversation, instead of the name.',
  placeholder: 'What stands in the empty field of the next message.',
  suggestions: 'What a guest may ask first, with one click.',
  askFor: 'Whether the page asks a guest for name and e-mail address before the first message.',
};

/** How the page of a chatbot's guests looks, as everybody may see it. */
export class AppearanceDto {
  @ApiProperty({ type: String, nullable: true, pattern: COLOR.source, description: DESCRIPTIONS.color })
  color!: string | null;
  @ApiProperty({ type: String, nullable: true, format: 'uri', description: DESCRIPTIONS.avatarUrl })
  avatarUrl!: string | null;
  @ApiProperty({ type: String, nullable: true, description: DESCRIPTIONS.title })
  title!: string | null;
  @ApiProperty({ type: String, nullable: true, description: DESCRIPTIONS.placeholder })
  placeholder!: string | null;
  @ApiProperty({ type: [String], description: DESCRIPTIONS.suggestions })
  suggestions!: string[];
  @ApiProperty({ enum: AskFor, enumName: 'AskFor', description: DESCRIPTIONS.askFor })
  askFor!: AskFor;
}

/** What a row has of it. */
export type StoredAppearance = Partial<AppearanceDto>;

/** All of it, with what the page has by itself. */
export const toAppearanceDto = (stored: StoredAppearance): AppearanceDto => ({
  color: stored.color ?? null,
  avatarUrl: stored.avatarUrl ?? null,
  title: stored.title ?? null,
  placeholder: stored.placeholder ?? null,
  suggestions: stored.suggestions ?? [],
  askFor: stored.askFor ?? AskFor.None,
});

/** A field that null or a blank clears, and that may be left out. */
const Clearable = (
  api: object,
  maxBytes: number,
  name: string,
  problemOf: (value: unknown) => string | null,
) =>
  applyDecorators(
    ApiProperty({ ...api, nullable: true, required: false }),
    Transform(({ value }: { value: unknown }) =>
      typeof value === 'string' && value.trim() === '' ? null : value,
    ),
    takesAtMost(maxBytes),
    ValidateIf((_, value: unknown) => value !== undefined && value !== null),
    Checked(name, problemOf),
  );

const colorProblem = (value: unknown): string | null =>
  typeof value === 'string' && COLOR.test(value) ? null : 'must be a color like #0a7f5a, or null';

function avatarUrlProblem(value: unknown): string | null {
  const url = typeof value === 'string' && value.length <= MAX_AVATAR_URL_LENGTH ? URL.parse(value) : null;
  const isFine = url !== null && url.protocol === 'https:' && url.username === '' && url.password === '';
  return isFine ? null : `must be an https URL of at most ${MAX_AVATAR_URL_LENGTH} characters, or null`;
}

function suggestionsProblem(value: unknown): string | null {
  const isFine =
    Array.isArray(value) &&
    value.length <= MAX_SUGGESTIONS &&
    value.every(
      (item) => typeof item === 'string' && item.trim() !== '' && [...item].length <= MAX_SUGGESTION_LENGTH,
    );
  return isFine
    ? null
    : `must be a list of at most ${MAX_SUGGESTIONS} texts of 1 to ${MAX_SUGGESTION_LENGTH} characters, or null`;
}

const askForProblem = (value: unknown): string | null =>
  Object.values(AskFor).some((known) => known === value)
    ? null
    : `must be one of ${Object.values(AskFor).join(', ')}, or null`;

/** What a body has of it: what it does not name stays, null clears. */
export class WrittenAppearanceDto {
  @Clearable(
    { type: String, pattern: COLOR.source, description: DESCRIPTIONS.color },
    16,
    'isColor',
    colorProblem,
  )
  color?: string | null;
  @Clearable(
    { type: String, format: 'uri', maxLength: MAX_AVATAR_URL_LENGTH, description: DESCRIPTIONS.avatarUrl },
    6 * MAX_AVATAR_URL_LENGTH,
    'isAvatarUrl',
    avatarUrlProblem,
  )
  avatarUrl?: string | null;
  @Text({
    maxLength: MAX_TITLE_LENGTH,
    isName: true,
    presence: 'clearable',
    description: DESCRIPTIONS.title,
  })
  title?: string | null;
  @Text({
    maxLength: MAX_TITLE_LENGTH,
    isName: true,
    presence: 'clearable',
    description: DESCRIPTIONS.placeholder,
  })
  placeholder?: string | null;
  @Clearable(
    {
      type: 'array',
      items: { type: 'string', minLength: 1, maxLength: MAX_SUGGESTION_LENGTH },
      maxItems: MAX_SUGGESTIONS,
      description: DESCRIPTIONS.suggestions,
    },
    16_384,
    'areSuggestions',
    suggestionsProblem,
  )
  suggestions?: string[] | null;
  @Clearable({ enum: Object.values(AskFor), description: DESCRIPTIONS.askFor }, 64, 'isAskFor', askForProblem)
  askFor?: AskFor | null;
}

/** The field of a request body; may be left out. */
export const AppearanceField = (): PropertyDecorator =>
  applyDecorators(
    ApiProperty({
      type: WrittenAppearanceDto,
      required: false,
      description:
        'How the page of its guests looks; everybody may see it. A change keeps what it does not name, and clears what is null.',
    }),
    takesAtMost(32_768),
    ValidateIf((_, value: unknown) => value !== undefined),
    IsObject({ message: 'must be an object' }),
    ValidateNested(),
    Type(() => WrittenAppearanceDto),
  );
