import { afterAll, afterEach } from '@jest/globals';
import { takeViolations } from './contract.js';

/** Fails the test during which an answer or an event was not as openapi.json says. */
function expectNoViolation(): void {
  const violations = takeViolations();
  if (violations.length === 0) return;
  const lines = [...new Set(violations)].slice(0, 20);
  throw new Error(`openapi.json does not allow what was answered:\n  ${lines.join('\n  ')}`);
}

afterEach(expectNoViolation);
afterAll(expectNoViolation);
