import { setTimeout as sleep } from 'node:timers/promises';
import type { Request, Response } from 'express';
import getRawBody from 'raw-body';
import { AppError } from '../runtime/app-error.js';

/**
 * What is still taken, and thrown away, of a body that is too large, in bytes and milliseconds: a client that is cut off
 * in the middle of sending sees a broken connection, and not the answer that says why.
 */
const MAX_DISCARDED_BYTES = 1024 * 1024;
const MAX_DISCARDING_MS = 1_000;

/**
 * Reads all bytes of a body.
 *
 * @throws AppError payload_too_large, and the connection ends with the answer; malformed_json where the client goes
 */
export async function readBody(request: Request, response: Response, maxBytes: number): Promise<Buffer> {
  try {
    return await getRawBody(request, { limit: maxBytes, length: request.headers['content-length'] ?? null });
  } catch (error) {
    if (!isTooLarge(error)) {
      throw new AppError('malformed_json', 'The body did not arrive as it was announced.', { cause: error });
    }
    response.setHeader('Connection', 'close');
    await discard(request);
    throw new AppError('payload_too_large', `The body may hold at most ${maxBytes} bytes.`);
  }
}

const isTooLarge = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'type' in error && error.type === 'entity.too.large';

/** Takes the rest of a body, up to a bound. */
async function discard(request: Request): Promise<void> {
  const isOver = new AbortController();
  let bytes = 0;
  const end = (): void => isOver.abort();
  const count = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > MAX_DISCARDED_BYTES) end();
  };
  request.on('data', count).once('end', end).once('close', end).resume();
  await sleep(MAX_DISCARDING_MS, undefined, { signal: isOver.signal }).catch(() => undefined);
  request.off('data', count).pause();
}
