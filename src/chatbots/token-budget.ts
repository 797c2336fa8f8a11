import type { Config } from '../config/env.js';

/** No budget is larger: it is counted in an integer of the database. */
export const MAX_TOKEN_BUDGET = 2_000_000_000;

type Settings = Pick<Config, 'DAILY_TOKEN_BUDGET' | 'DAILY_TOKEN_BUDGET_MAX'>;

/**
 * How many tokens a chatbot may use in a UTC day; null: as many as it takes.
 *
 * @param own what its owner says; null: the operator's default
 */
export function tokenBudgetOf(own: number | null, settings: Settings): number | null {
  const { DAILY_TOKEN_BUDGET: fallback, DAILY_TOKEN_BUDGET_MAX: max } = settings;
  const budget = own ?? fallback ?? max ?? null;
  return budget === null || max === undefined ? budget : Math.min(budget, max);
}
