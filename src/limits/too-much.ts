import { AppError } from '../runtime/app-error.js';
import type { LimitName } from './limit-names.js';

/** @param retryAfterSeconds when it may be less */
export const tooMuch = (limit: LimitName, retryAfterSeconds: number): AppError =>
  new AppError('rate_limited', 'Too much of this in too short a time. Wait, and try again.', {
    limit,
    retryAfterSeconds,
  });
