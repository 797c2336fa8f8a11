import { ApiProperty } from '@nestjs/swagger';
import { Flag } from '../http/flag.js';
import { OriginList } from '../http/origin-list.js';
import { WholeNumber } from '../http/whole-number.js';
import { Text, TextList } from '../http/text.js';
import { isoTime } from '../database/database.js';
import type { Row } from '../database/tables.js';
import type { OwnLimits } from '../limits/limit-names.js';
import { AppearanceDto, AppearanceField, toAppearanceDto, type WrittenAppearanceDto } from './appearance.js';
import { ApiOwnLimits, OwnLimitsField, type WrittenLimits } from './own-limits.js';
import { MAX_TOKEN_BUDGET } from './token-budget.js';
import { exceedsPrompt, tokensOfCharacteristic, tokensOfInstructions } from './prompt-room.js';

export const MAX_CHARACTERISTICS = 200;
const MAX_CHARACTERISTIC_LENGTH = 8_000;
/** Of a greeting, before and after the guest's name is put into it. */
export const MAX_GREETING_LENGTH = 2_000;
const GREETING_DESCRIPTION =
  'What the chatbot says first; `{name}` in it stands for the guest’s name, and for nothing where none was given.';
const MODEL_DESCRIPTION =
  'The model that speaks for this chatbot; null: the one that the server is configured with.';
const INSTRUCTIONS_DESCRIPTION =
  'How the chatbot behaves, in the owner’s words: its tone, its role, what to do when unsure. The model gets them before the characteristics.';
const IS_ENABLED_DESCRIPTION =
  'False: no session is opened, no message taken and no reply asked for again (`chatbot_disabled`); what was accepted before is still answered.';

const ALLOWED_ORIGINS_DESCRIPTION =
  'Origins of the pages that guests may use it on: scheme, host and port as browsers send them, or `https://*.example.com` for any depth below a name and not the name itself. Empty: any page.';

const DAILY_TOKEN_BUDGET_DESCRIPTION =
  'Tokens that it may use in a UTC day, in and out, as providers count them. When they are spent it says `unavailableMessage` until the day is over. Null: what the server is configured with, which may be as many as it takes; more than the server’s maximum is refused.';
const RETENTION_DAYS_DESCRIPTION =
  'Days after which a session without activity is erased, with its messages, and with its guest where that has no other. Null: what the server is configured with, which may be never; more than that is refused.';
const UNAVAILABLE_MESSAGE_DESCRIPTION =
  'What it says when its budget of the day is spent; null: “This chat is not available right now. Please try again later.”';

const REQUIRE_IDENTITY_DESCRIPTION =
  'Whether sessions are opened by people alone whom the owner’s own server vouches for, by a token that it signs with the chatbot’s identity secret. Sessions that are open go on.';

/** What an owner may write of a chatbot, when it is made and later. */
class WritableFieldsDto {
  @Text({ maxLength: MAX_GREETING_LENGTH, presence: 'clearable', description: GREETING_DESCRIPTION })
  greeting?: string | null;
  @Text({ maxLength: 255, isTrimmed: true, presence: 'clearable', description: MODEL_DESCRIPTION })
  model?: string | null;
  @Text({ maxLength: 8_000, presence: 'clearable', description: INSTRUCTIONS_DESCRIPTION })
  instructions?: string | null;
  @Flag(IS_ENABLED_DESCRIPTION)
  isEnabled?: boolean;
  @OriginList(ALLOWED_ORIGINS_DESCRIPTION)
  allowedOrigins?: string[];
  @OwnLimitsField()
  limits?: WrittenLimits | null;
  @WholeNumber({ min: 1, max: 36_500, description: RETENTION_DAYS_DESCRIPTION })
  retentionDays?: number | null;
  @WholeNumber({ min: 0, max: MAX_TOKEN_BUDGET, description: DAILY_TOKEN_BUDGET_DESCRIPTION })
  dailyTokenBudget?: number | null;
  @Text({ maxLength: 2_000, presence: 'clearable', description: UNAVAILABLE_MESSAGE_DESCRIPTION })
  unavailableMessage?: string | null;
  @Flag(REQUIRE_IDENTITY_DESCRIPTION)
  requireIdentity?: boolean;
  @AppearanceField()
  appearance?: WrittenAppearanceDto;
}

export class UpdateChatbotDto extends WritableFieldsDto {
  @Text({ maxLength: 255, isName: true, presence: 'optional' })
  name?: string;
}

export class CreateChatbotDto extends WritableFieldsDto {
  @Text({ maxLength: 255, isName: true })
  name!: string;
  @TextList({
    maxItems: MAX_CHARACTERISTICS,
    maxLength: MAX_CHARACTERISTIC_LENGTH,
    description: 'What the chatbot knows and how it behaves.',
  })
  characteristics?: string[];
}

/** The body of creating a characteristic, and of changing one. */
export class CharacteristicContentDto {
  @Text({
    maxLength: MAX_CHARACTERISTIC_LENGTH,
    description: 'Kept exactly as sent.',
  })
  content!: string;
}

export class ChatbotCharacteristicDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty({ format: 'uuid' })
  chatbotId!: string;
  @ApiProperty()
  content!: string;
  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
}

/** A chatbot as lists show it. */
export class ChatbotSummaryDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty({ description: 'Its owner: the `sub` of the token that created it.' })
  clerkUserId!: string;
  @ApiProperty()
  name!: string;
  @ApiProperty({ type: String, nullable: true, description: GREETING_DESCRIPTION })
  greeting!: string | null;
  @ApiProperty({ type: String, nullable: true, description: MODEL_DESCRIPTION })
  model!: string | null;
  @ApiProperty({ type: String, nullable: true, description: INSTRUCTIONS_DESCRIPTION })
  instructions!: string | null;
  @ApiProperty({ description: IS_ENABLED_DESCRIPTION })
  isEnabled!: boolean;
  @ApiProperty({ type: [String], description: ALLOWED_ORIGINS_DESCRIPTION })
  allowedOrigins!: string[];
  @ApiOwnLimits()
  limits!: OwnLimits | null;
  @ApiProperty({ type: 'integer', minimum: 1, nullable: true, description: RETENTION_DAYS_DESCRIPTION })
  retentionDays!: number | null;
  @ApiProperty({ type: 'integer', minimum: 0, nullable: true, description: DAILY_TOKEN_BUDGET_DESCRIPTION })
  dailyTokenBudget!: number | null;
  @ApiProperty({ type: String, nullable: true, description: UNAVAILABLE_MESSAGE_DESCRIPTION })
  unavailableMessage!: string | null;
  @ApiProperty({ description: REQUIRE_IDENTITY_DESCRIPTION })
  requireIdentity!: boolean;
  @ApiProperty({ type: AppearanceDto, description: 'How the page of its guests looks.' })
  appearance!: AppearanceDto;
  @ApiProperty({ format: 'date-time' })
  createdAt!: string;
  @ApiProperty({ format: 'date-time' })
  updatedAt!: string;
  @ApiProperty({ type: 'integer', minimum: 0, maximum: MAX_CHARACTERISTICS })
  characteristicCount!: number;
  @ApiProperty({
    type: 'integer',
    minimum: 0,
    description:
      'Tokens that instructions and characteristics take of a prompt, all of them: an upper estimate for the few seconds after a change, until a worker has counted.',
  })
  promptTokens!: number;
  @ApiProperty({
    description:
      'Whether they are too many to be in every prompt, by `promptTokens` and the server’s `CONTEXT_MAX_TOKENS`: then each reply gets the characteristics that fit its question best, and says so (`characteristicsUsed`).',
  })
  exceedsContext!: boolean;
  @ApiProperty({ type: 'integer', minimum: 0, description: 'Right within a minute.' })
  sessionCount!: number;
}

export class ChatbotDto extends ChatbotSummaryDto {
  @ApiProperty({ type: [ChatbotCharacteristicDto], description: 'Oldest first.' })
  characteristics!: ChatbotCharacteristicDto[];
}

/** What anybody may see of a chatbot. */
export class PublicChatbotDto {
  @ApiProperty({ format: 'uuid' })
  id!: string;
  @ApiProperty()
  name!: string;
  @ApiProperty({ type: String, nullable: true, description: GREETING_DESCRIPTION })
  greeting!: string | null;
  @ApiProperty({ description: IS_ENABLED_DESCRIPTION })
  isEnabled!: boolean;
  @ApiProperty({ description: REQUIRE_IDENTITY_DESCRIPTION })
  requireIdentity!: boolean;
  @ApiProperty({ type: AppearanceDto, description: 'How the page of its guests looks.' })
  appearance!: AppearanceDto;
}

export function toCharacteristicDto(
  characteristic: Row<'chatbot_characteristics'>,
): ChatbotCharacteristicDto {
  return {
    id: characteristic.id,
    chatbotId: characteristic.chatbot_id,
    content: characteristic.content,
    createdAt: isoTime(characteristic.created_at),
  };
}

/** How many characteristics a chatbot has, and what they take of a prompt. */
export interface CharacteristicTotals {
  count: number;
  tokens: number;
}

/** @param maxTokens the limit of a prompt */
export function toChatbotSummaryDto(
  chatbot: Row<'chatbots'>,
  characteristics: CharacteristicTotals,
  maxTokens: number,
): ChatbotSummaryDto {
  const instructionsTokens =
    chatbot.instructions === null
      ? 0
      : (chatbot.instructions_tokens ?? tokensOfInstructions(chatbot.instructions));
  return {
    id: chatbot.id,
    clerkUserId: chatbot.clerk_user_id,
    name: chatbot.name,
    greeting: chatbot.greeting,
    model: chatbot.model,
    instructions: chatbot.instructions,
    isEnabled: chatbot.is_enabled,
    allowedOrigins: chatbot.allowed_origins,
    limits: chatbot.limits,
    retentionDays: chatbot.retention_days,
    dailyTokenBudget: chatbot.daily_token_budget,
    unavailableMessage: chatbot.unavailable_message,
    requireIdentity: chatbot.requires_identity,
    appearance: toAppearanceDto(chatbot.appearance),
    createdAt: isoTime(chatbot.created_at),
    updatedAt: isoTime(chatbot.updated_at),
    characteristicCount: characteristics.count,
    promptTokens: instructionsTokens + characteristics.tokens,
    sessionCount: chatbot.session_count,
    exceedsContext: exceedsPrompt(
      { name: chatbot.name, instructionsTokens, characteristicsTokens: characteristics.tokens },
      maxTokens,
    ),
  };
}

export function toChatbotDto(
  chatbot: Row<'chatbots'>,
  characteristics: readonly Row<'chatbot_characteristics'>[],
  maxTokens: number,
): ChatbotDto {
  const tokens = characteristics.reduce(
    (sum, { tokens, content }) => sum + (tokens ?? tokensOfCharacteristic(content)),
    0,
  );
  return {
    ...toChatbotSummaryDto(chatbot, { count: characteristics.length, tokens }, maxTokens),
    characteristics: characteristics.map(toCharacteristicDto),
  };
}
