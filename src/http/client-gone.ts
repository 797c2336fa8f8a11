import type { Response } from 'express';

/** Aborted when the client has gone, whoever ended the response; at once where it left while it was being authorized. */
export function clientGone(response: Response): AbortSignal {
  const gone = new AbortController();
  if (response.closed || response.destroyed) gone.abort();
  else response.once('close', () => gone.abort());
  return gone.signal;
}
