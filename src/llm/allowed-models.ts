import type { Config } from '../config/env.js';

type Settings = Pick<Config, 'ALLOWED_MODELS' | 'OPENAI_MODEL' | 'OPENAI_FALLBACK_MODEL'>;

/** The models that a chatbot may name; null: any. */
export function allowedModels(settings: Settings): readonly string[] | null {
  const { ALLOWED_MODELS: listed, OPENAI_MODEL: first, OPENAI_FALLBACK_MODEL: fallback } = settings;
  if (listed.includes('*')) return null;
  if (listed.length > 0) return [...new Set([first, ...listed])];
  return fallback === undefined ? [first] : [first, fallback];
}
