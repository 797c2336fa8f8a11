import { type ChatProblem, isSessionGone, RequestError } from './problem.js';
import type { Stored } from './storage.js';

/** A message that the server is not known to have. */
export interface Unsent {
  /** Its `clientMessageId`: with it, sent again, it is stored once. */
  readonly id: string;
  readonly content: string;
  readonly state: 'sending' | 'not_sent';
  /** Why it was not sent. */
  readonly problem: ChatProblem | null;
}

export interface OutboxOptions {
  stored: Stored<Unsent[]>;
  /** Sends one, for as long as it takes. @throws RequestError when it is given up */
  post: (unsent: Unsent) => Promise<void>;
  onChange: () => void;
}

/**
 * The messages on their way, one after the other, so that they arrive in the order in which they were written. Each is
 * stored until it is known to have arrived: a reload goes on, under the same id.
 */
export class Outbox {
  private list: readonly Unsent[];
  private isRunning = false;
  private mayRun = false;

  constructor(private readonly options: OutboxOptions) {
    this.list = options.stored.load() ?? [];
  }

  get entries(): readonly Unsent[] {
    return this.list;
  }

  get sending(): readonly Unsent[] {
    return this.list.filter(({ state }) => state === 'sending');
  }

  add(unsent: Pick<Unsent, 'id' | 'content'>): void {
    this.put({ ...unsent, state: 'sending', problem: null });
    void this.run();
  }

  /** Tries one again that was not sent. */
  resend(id: string): void {
    const unsent = this.list.find((one) => one.id === id && one.state === 'not_sent');
    if (unsent) this.add(unsent);
  }

  /** Tries those again that the end of a session kept from being sent. */
  resendAfterEnd(): void {
    for (const { id, problem } of this.list) {
      if (problem && isSessionGone(problem)) this.resend(id);
    }
  }

  has(id: string): boolean {
    return this.list.some((one) => one.id === id);
  }

  /** It has arrived. */
  settle(id: string): void {
    if (!this.has(id)) return;
    this.list = this.list.filter((one) => one.id !== id);
    this.store(id, null);
    this.options.onChange();
  }

  /** From now on there is a session to send to. */
  start(): void {
    this.mayRun = true;
    void this.run();
  }

  /** There is none: what is on its way was not sent. */
  stop(problem: ChatProblem | null): void {
    this.mayRun = false;
    if (problem) for (const { id } of this.sending) this.refuse(id, problem);
  }

  private refuse(id: string, problem: ChatProblem): void {
    const unsent = this.list.find((one) => one.id === id);
    if (unsent) this.put({ ...unsent, state: 'not_sent', problem });
  }

  private put(unsent: Unsent): void {
    this.list = this.has(unsent.id)
      ? this.list.map((one) => (one.id === unsent.id ? unsent : one))
      : [...this.list, unsent];
    this.store(unsent.id, unsent);
    this.options.onChange();
  }

  /** Changes one in the storage, where other tabs keep theirs as well. */
  private store(id: string, unsent: Unsent | null): void {
    const { stored } = this.options;
    const all = stored.load() ?? [];
    const changed = all.some((one) => one.id === id)
      ? all.flatMap((one) => (one.id === id ? (unsent ?? []) : one))
      : [...all, ...(unsent ? [unsent] : [])];
    stored.save(changed.length === 0 ? null : changed);
  }

  private async run(): Promise<void> {
    if (this.isRunning) return;
    this.isRunning = true;
    for (let next = this.next(); next; next = this.next()) {
      try {
        await this.options.post(next);
        this.settle(next.id);
      } catch (error) {
        if (error instanceof RequestError && this.mayRun) this.refuse(next.id, error.problem);
      }
    }
    this.isRunning = false;
  }

  private next(): Unsent | undefined {
    return this.mayRun ? this.sending[0] : undefined;
  }
}
