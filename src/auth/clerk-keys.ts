import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { within } from '../runtime/within.js';

/** Keys are asked for again when a token names one that is not known, at most this often, in milliseconds. */
const FETCH_INTERVAL_MS = 60_000;
/** After a failure they are asked for again sooner, and doubled for each, up to the interval. */
const FIRST_RETRY_MS = 1_000;
/** The longest wait for an answer: one that never comes must not keep the next request from being made. */
const FETCH_TIMEOUT_MS = 4_000;
/** Known keys are asked for again after so long, since one that was taken back is not told. */
const MAX_AGE_MS = 3_600_000;

/** Where Clerk's keys could not be had, and none are known. */
export class NoKeysError extends Error {}

/** A key as Clerk serves it. */
type ServedKey = JsonWebKey & { kid?: string };

/**
 * The public keys of a Clerk instance, by their ids. Whoever sends tokens chooses what ids they name: so those that there
 * are not cost one request a minute, whoever names them and however often, and all who wait share one.
 */
export class ClerkKeys {
  private keys = new Map<string, string>();
  private loadedAt: number | null = null;
  private mayFetchAt = -Infinity;
  private failures = 0;
  private fetching: Promise<void> | null = null;

  /**
   * @param fetchKeys asks Clerk
   * @param now a clock in milliseconds
   * @param timeoutMs how long it may take
   */
  constructor(
    private readonly fetchKeys: () => Promise<readonly object[]>,
    private readonly now: () => number = () => performance.now(),
    private readonly timeoutMs = FETCH_TIMEOUT_MS,
  ) {}

  /**
   * @returns the key as PEM; null where there is none of that id
   * @throws NoKeysError where that cannot be told
   */
  async find(id: string): Promise<string | null> {
    if (!this.keys.has(id)) await this.refresh();
    else if (this.isOld) void this.refresh(); // nobody waits for what is most likely unchanged
    const key = this.keys.get(id);
    if (key === undefined && this.loadedAt === null) throw new NoKeysError('Clerk has not told its keys');
    return key ?? null;
  }

  private get isOld(): boolean {
    return this.loadedAt === null || this.now() - this.loadedAt > MAX_AGE_MS;
  }

  private async refresh(): Promise<void> {
    if (!this.fetching) {
      if (this.now() < this.mayFetchAt) return;
      this.fetching = this.load().finally(() => (this.fetching = null));
    }
    await this.fetching;
  }

  /** Keeps what it knows where Clerk does not answer. */
  private async load(): Promise<void> {
    try {
      const served = (await within(this.timeoutMs, this.fetchKeys())) as readonly ServedKey[];
      this.keys = new Map(served.flatMap((key) => (key.kid === undefined ? [] : pemOf(key, key.kid))));
      this.loadedAt = this.now();
      this.failures = 0;
      this.mayFetchAt = this.now() + FETCH_INTERVAL_MS;
    } catch {
      this.mayFetchAt = this.now() + Math.min(FIRST_RETRY_MS * 2 ** this.failures++, FETCH_INTERVAL_MS);
    }
  }
}

/** None for a key of a kind that is not known. */
function pemOf(key: JsonWebKey, id: string): [string, string][] {
  try {
    const pem = createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'pem' });
    return [[id, pem as string]];
  } catch {
    return [];
  }
}
