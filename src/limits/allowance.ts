import { AsyncLocalStorage } from 'node:async_hooks';

/** What is left of the limit that a request is nearest to. */
export interface Allowance {
  limit: number;
  remaining: number;
  /** When its window is over; of places that are in use, when to ask again. */
  resetSeconds: number;
}

/** Whom to tell it, for the request that is being served: who counts knows no HTTP. */
export const allowanceListener = new AsyncLocalStorage<(allowance: Allowance) => void>();
