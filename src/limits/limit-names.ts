import type { Config } from '../config/env.js';
import type { Rate } from '../config/setting-types.js';

/** What is limited in time, by the names of `Chatbot.limits` and of a refusal; each with its setting. */
const SETTINGS = {
  sessionsPerAddress: 'LIMIT_SESSIONS_PER_ADDRESS',
  sessionsPerChatbot: 'LIMIT_SESSIONS_PER_CHATBOT',
  messagesPerSession: 'LIMIT_MESSAGES_PER_SESSION',
  messagesPerAddress: 'LIMIT_MESSAGES_PER_ADDRESS',
  messagesPerChatbot: 'LIMIT_MESSAGES_PER_CHATBOT',
  actionsPerSession: 'LIMIT_ACTIONS_PER_SESSION',
  ownerWrites: 'LIMIT_OWNER_WRITES',
} as const;

export type LimitName = keyof typeof SETTINGS;
export const LIMIT_NAMES = Object.keys(SETTINGS) as LimitName[];

/** The settings that limits are read from. */
export type LimitSettings = Pick<Config, (typeof SETTINGS)[LimitName]>;

export const limitOf = (settings: LimitSettings, name: LimitName): Rate => settings[SETTINGS[name]];
