import { once } from 'node:events';
import type { Response } from 'express';
import { within } from '../runtime/within.js';
import { clientGone } from './client-gone.js';
import { endRequestSpan } from './request-span.js';

const HEADERS = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no', // nginx would hold events back
  Connection: 'keep-alive',
};

/**
 * One open `text/event-stream`. It writes only as fast as the client reads: while the socket's buffer is full
 * nothing is fetched for it, so a slow client costs no memory, and one that does not read at all is let go.
 */
export class SseResponse {
  /** Aborted when the client has gone, whoever ended it. */
  readonly signal: AbortSignal;

  /** @param maxStallMs how long the client may leave its buffer full before it is disconnected */
  constructor(
    private readonly response: Response,
    private readonly maxStallMs: number,
  ) {
    response.on('error', () => undefined); // it closes next
    this.signal = clientGone(response);
  }

  async begin(text: string, headers: Record<string, string> = {}): Promise<void> {
    this.response.writeHead(200, { ...HEADERS, ...headers });
    endRequestSpan(this.response);
    await this.send(text);
  }

  /** @param text whole blocks, each with its blank line */
  async send(text: string): Promise<void> {
    if (this.signal.aborted || this.response.writableEnded || this.response.write(text)) return;
    try {
      await within(this.maxStallMs, once(this.response, 'drain', { signal: this.signal }));
    } catch {
      this.response.destroy(); // it does not read, or it has gone
    }
  }

  /** A comment, which keeps proxies from closing a silent connection; dropped where the buffer is full. */
  keepAlive(): void {
    if (!this.response.writableNeedDrain && !this.response.writableEnded)
      this.response.write(': keep-alive\n\n');
  }

  end(text?: string): void {
    if (!this.response.writableEnded) this.response.end(text);
  }

  /** Breaks the connection off, for a client that takes a stream that ends well for one that is whole. */
  cut(): void {
    this.response.destroy();
  }
}
