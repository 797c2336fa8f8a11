import { type Pauses } from './pauses.js';
import { networkError, problemOf, RequestError } from './problem.js';
import { backoffMs, type Timings } from './timings.js';

export interface RequestOptions {
  token?: string | undefined;
  body?: object | undefined;
  headers?: Record<string, string>;
  /** Aborts the request. */
  signal: AbortSignal;
}

/** Requests to one API. */
export class Requests {
  readonly baseUrl: string;

  constructor(
    baseUrl: string,
    readonly fetch: typeof globalThis.fetch,
    private readonly timings: Timings,
    private readonly pauses: Pauses,
  ) {
    this.baseUrl = baseUrl.replace(/\/+$/, '');
  }

  /** @throws RequestError */
  async send<T>(method: string, path: string, options: RequestOptions): Promise<T> {
    const { token, body, signal } = options;
    const aborting = new AbortController();
    const abort = (): void => aborting.abort();
    const timer = setTimeout(abort, this.timings.requestTimeoutMs);
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    try {
      const response = await this.fetch(this.baseUrl + path, {
        method,
        headers: {
          ...(body && { 'Content-Type': 'application/json' }),
          ...(token !== undefined && { Authorization: `Bearer ${token}` }),
          ...options.headers,
        },
        ...(body && { body: JSON.stringify(body) }),
        signal: aborting.signal,
      });
      if (!response.ok) throw await problemOf(response);
      return (await response.json()) as T;
    } catch (error) {
      throw error instanceof RequestError ? error : networkError(error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  }

  /**
   * Sends it again for as long as that may help: until it is answered or refused, the time is up, or the signal
   * aborts. Only for requests that do nothing twice.
   *
   * @param forMs how long it is tried
   * @param onFailure told of each failure that is not the last
   * @throws RequestError the last one
   */
  async persist<T>(
    send: () => Promise<T>,
    {
      signal,
      forMs = Infinity,
      onFailure,
    }: { signal: AbortSignal; forMs?: number; onFailure?: (error: RequestError) => void },
  ): Promise<T> {
    const end = Date.now() + forMs;
    for (let failures = 1; ; failures++) {
      try {
        return await send();
      } catch (error) {
        const failure = error instanceof RequestError ? error : networkError(error);
        if (!failure.isPassing || signal.aborted || Date.now() >= end) throw failure;
        onFailure?.(failure);
        const { retryAfterMs } = failure;
        const pauseMs = Math.min(backoffMs(failures, this.timings), Math.max(0, end - Date.now()));
        await this.pauses.wait(Math.max(pauseMs, retryAfterMs ?? 0), signal, retryAfterMs !== null);
        if (signal.aborted) throw failure;
      }
    }
  }
}
