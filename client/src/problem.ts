/** Why something did not work, for a program (`code`) and for a person (`detail`). */
export interface ChatProblem {
  /** A code of the API's problem documents, or `network` where no answer came. */
  code: string;
  detail: string;
  /** The HTTP status; 0 where no answer came. */
  status: number;
}

/** Longest `Retry-After` that is waited for: beyond, the request counts as refused. */
const LONGEST_WAIT_MS = 60_000;

/** A request that was not answered as hoped. */
export class RequestError extends Error {
  constructor(
    readonly problem: ChatProblem,
    /** When the server asks to be asked again, in milliseconds from now. */
    readonly retryAfterMs: number | null = null,
  ) {
    super(problem.detail);
    this.name = 'RequestError';
  }

  /** Whether the same request may be answered later. */
  get isPassing(): boolean {
    const { status, code } = this.problem;
    if (status === 429) return this.retryAfterMs !== null && this.retryAfterMs <= LONGEST_WAIT_MS;
    return (
      status === 0 || status === 408 || status === 425 || status >= 500 || code === 'idempotency_in_progress'
    );
  }
}

/** Whether a session is not there any more, or not for its token. */
export const isSessionGone = ({ status }: ChatProblem): boolean => status === 401 || status === 404;

/** @param error what `fetch` or a stream has thrown */
export const networkError = (error: unknown): RequestError =>
  new RequestError({
    code: 'network',
    detail: error instanceof Error ? error.message : 'The connection failed.',
    status: 0,
  });

/** Reads the problem document of an answer that is none of the good ones; anything else by its status. */
export async function problemOf(response: Response): Promise<RequestError> {
  const body = (await response.json().catch(() => null)) as Partial<ChatProblem> | null;
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  return new RequestError(
    {
      code: typeof body?.code === 'string' ? body.code : `http_${response.status}`,
      detail: typeof body?.detail === 'string' ? body.detail : `The server answered ${response.status}.`,
      status: response.status,
    },
    Number.isFinite(seconds) ? seconds * 1000 : null,
  );
}
