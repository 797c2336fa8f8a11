import { Inject, Injectable } from '@nestjs/common';
import { type Timings, TIMINGS } from './timings.js';
import { NoAnswerError, within } from './within.js';

/** Thrown by a check whose part is missing; its message is the reason, shown to operators. */
export class MissingPartError extends Error {}

export interface PartHealth {
  name: string;
  status: 'up' | 'down';
  /** Why it is down, in no driver's words: those hold SQL and addresses. */
  reason?: string;
}

/** What a process needs before it may be given work. Whoever provides a part registers its check here. */
@Injectable()
export class Readiness {
  private readonly checks = new Map<string, () => Promise<void>>();
  private looking: Promise<PartHealth[]> | null = null;

  constructor(@Inject(TIMINGS) private readonly timings: Pick<Timings, 'readinessCheckTimeoutMs'>) {}

  /** @param check resolves when the part is there, and throws when it is not */
  register(name: string, check: () => Promise<void>): void {
    this.checks.set(name, check);
  }

  /** All parts. Anybody may ask, so those who ask at the same time share one look at them. */
  look(): Promise<PartHealth[]> {
    this.looking ??= Promise.all([...this.checks].map(([name, check]) => this.lookAt(name, check))).finally(
      () => {
        this.looking = null;
      },
    );
    return this.looking;
  }

  /** The names of the parts that are missing. */
  async missing(): Promise<string[]> {
    return namesOfMissing(await this.look());
  }

  private async lookAt(name: string, check: () => Promise<void>): Promise<PartHealth> {
    try {
      await within(this.timings.readinessCheckTimeoutMs, check());
      return { name, status: 'up' };
    } catch (error) {
      return { name, status: 'down', reason: reasonOf(error) };
    }
  }
}

export const namesOfMissing = (parts: readonly PartHealth[]): string[] =>
  parts.filter(({ status }) => status === 'down').map(({ name }) => name);

/** The words of our own errors; of any other only its code, such as ECONNREFUSED or 57P03, where it has one. */
export function reasonOf(error: unknown): string {
  let cause: unknown = error;
  for (let depth = 0; depth < 5 && typeof cause === 'object' && cause !== null; depth++) {
    if (cause instanceof MissingPartError || cause instanceof NoAnswerError) return cause.message;
    // Redis names what is wrong in its first word, such as NOPERM or READONLY.
    if (cause instanceof Error && cause.name === 'ReplyError') {
      const isOfScript = cause.message.includes("can't run this command"); // it says ERR, in a script
      const code = isOfScript ? 'NOPERM' : (/^[A-Z]+/.exec(cause.message)?.[0] ?? 'ERR');
      return `error ${code}${commandOf(cause)}`;
    }
    if ('code' in cause && typeof cause.code === 'string') return `error ${cause.code}`;
    cause = 'cause' in cause ? cause.cause : undefined;
  }
  return 'error';
}

/** The command that Redis refused, without what was sent along. */
function commandOf(error: Error): string {
  const command: unknown = 'command' in error ? error.command : undefined;
  const name: unknown =
    typeof command === 'object' && command !== null && 'name' in command ? command.name : undefined;
  return typeof name === 'string' ? ` from ${name}` : '';
}
