import type { RequestHandler } from 'express';

/** A body that is announced as no larger is read to its end, and its connection kept, in bytes. */
const MAX_DISCARDED_BYTES = 128 * 1024;

/**
 * Ends the connection with an answer that is given while a large body is still on its way: to a request without a credential,
 * to a route that there is none of, or to one that takes no body. Node would read all of it before the next request.
 */
export const endWithUnreadBody: RequestHandler = (request, response, next) => {
  const { headers } = request;
  const isLarge =
    headers['transfer-encoding'] !== undefined ||
    Number(headers['content-length'] ?? 0) > MAX_DISCARDED_BYTES;
  if (isLarge) {
    const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => typeof response;
    response.writeHead = (...args: unknown[]) => {
      if (!request.complete) response.setHeader('Connection', 'close');
      return writeHead(...args);
    };
  }
  next();
};
