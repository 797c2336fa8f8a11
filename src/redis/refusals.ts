import { isOfWrongServer } from './redis-connection.js';

/** How long a refusal counts where the same is not asked for again, in milliseconds. */
const REMEMBERED_MS = 30_000;

/** Conditions of the whole server, which refuse every write: readiness meets them itself, and sees when they end. */
const OF_ALL_WRITES = /(?:^|[\s:]-?)(?:OOM|MISCONF|NOREPLICAS|BUSY)\s/;

/**
 * What Redis has refused lately: a command that the user may not use, a script that fails. Readiness asks, since the
 * small write that it does itself may be allowed where what the work needs is not.
 */
export class Refusals {
  private readonly found = new Map<string, { error: Error; at: number }>();

  /** @param what is asked for; where Redis does it later, its refusal is forgotten */
  async watch<T>(what: string, asked: Promise<T>): Promise<T> {
    try {
      const answer = await asked;
      this.found.delete(what);
      return answer;
    } catch (error) {
      this.note(what, error);
      throw error;
    }
  }

  note(what: string, error: unknown): void {
    if (!(error instanceof Error) || error.name !== 'ReplyError') return;
    // From a replica the connection is made anew.
    if (isOfWrongServer(error) || OF_ALL_WRITES.test(error.message)) return;
    this.found.set(what, { error, at: performance.now() });
  }

  /** @throws what was refused, unless that is long ago */
  check(): void {
    for (const { error, at } of this.found.values()) {
      if (performance.now() - at < REMEMBERED_MS) throw error;
    }
  }
}
