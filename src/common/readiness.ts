import { Injectable } from '@nestjs/common';
import { within } from './within.js';

/** Deadline of one check: a load balancer asks often, and must be answered while a store hangs. */
const CHECK_TIMEOUT_MS = 1_500;

/** What a process needs before it may be given work. Whoever provides a part registers its check here. */
@Injectable()
export class Readiness {
  private readonly checks = new Map<string, () => Promise<void>>();

  /** @param check resolves when the part is there, and throws when it is not */
  register(name: string, check: () => Promise<void>): void {
    this.checks.set(name, check);
  }

  /** The names of the parts that are missing. */
  async missing(): Promise<string[]> {
    const results = await Promise.all(
      [...this.checks].map(async ([name, check]) => {
        try {
          await within(CHECK_TIMEOUT_MS, check());
          return null;
        } catch {
          return name;
        }
      }),
    );
    return results.filter((name) => name !== null);
  }
}
