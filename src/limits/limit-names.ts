import type { Config } from '../config/env.js';
import type { Rate } from '../config/setting-types.js';

/** What is limited in time, by the names of `Chatbot.limits` and of a refusal; each with its setting. */
const RATE_SETTINGS = {
  sessionsPerAddress: 'LIMIT_SESSIONS_PER_ADDRESS',
  sessionsPerChatbot: 'LIMIT_SESSIONS_PER_CHATBOT',
  messagesPerSession: 'LIMIT_MESSAGES_PER_SESSION',
  messagesPerAddress: 'LIMIT_MESSAGES_PER_ADDRESS',
  messagesPerChatbot: 'LIMIT_MESSAGES_PER_CHATBOT',
  unansweredPerSession: 'LIMIT_UNANSWERED_PER_SESSION',
  actionsPerSession: 'LIMIT_ACTIONS_PER_SESSION',
  ownerWrites: 'LIMIT_OWNER_WRITES',
} as const;

/** What is limited at the same time. */
const HOLD_SETTINGS = {
  streamsPerSession: 'LIMIT_STREAMS_PER_SESSION',
  streamsPerAddress: 'LIMIT_STREAMS_PER_ADDRESS',
  longPolls: 'LIMIT_LONG_POLLS',
} as const;

export type RateName = keyof typeof RATE_SETTINGS;
export type HoldName = keyof typeof HOLD_SETTINGS;
export type LimitName = RateName | HoldName;

export const LIMIT_NAMES = [...Object.keys(RATE_SETTINGS), ...Object.keys(HOLD_SETTINGS)] as LimitName[];

/** Those of a chatbot that its owner may set: an owner's writes are not a chatbot's. */
export const OWN_RATE_NAMES = (Object.keys(RATE_SETTINGS) as RateName[]).filter(
  (name) => name !== 'ownerWrites',
);
export const OWN_HOLD_NAMES = Object.keys(HOLD_SETTINGS) as HoldName[];

/** The settings that limits are read from. */
export type LimitSettings = Pick<
  Config,
  (typeof RATE_SETTINGS)[RateName] | (typeof HOLD_SETTINGS)[HoldName] | 'LIMITS_OF_CHATBOT_FACTOR'
>;

/** A chatbot's own, beside which the settings are for the others. */
export type OwnLimits = { [Name in RateName]?: Pick<Rate, 'max' | 'windowSeconds'> } & {
  [Name in HoldName]?: { max: number };
};

export function rateOf(
  settings: LimitSettings,
  name: RateName,
  own: OwnLimits | null,
): Pick<Rate, 'max' | 'windowSeconds'> {
  const wanted = own?.[name];
  if (!wanted) return settings[RATE_SETTINGS[name]];
  return { ...wanted, max: Math.min(wanted.max, mostOf(settings, name, wanted.windowSeconds)) };
}

export function holdOf(settings: LimitSettings, name: HoldName, own: OwnLimits | null): number {
  const wanted = own?.[name]?.max;
  return wanted === undefined ? settings[HOLD_SETTINGS[name]] : Math.min(wanted, mostOf(settings, name));
}

/** The most that an owner may set: so many times what the settings allow, in the same time and at once. */
export function mostOf(settings: LimitSettings, name: LimitName, windowSeconds?: number): number {
  const { LIMITS_OF_CHATBOT_FACTOR: factor } = settings;
  if (name in HOLD_SETTINGS) return settings[HOLD_SETTINGS[name as HoldName]] * factor;
  const rate = settings[RATE_SETTINGS[name as RateName]];
  const part = windowSeconds === undefined ? 1 : Math.min(1, windowSeconds / rate.windowSeconds);
  return Math.max(1, Math.floor(rate.max * factor * part));
}
