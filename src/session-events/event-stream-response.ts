import { once } from 'node:events';
import type { Response } from 'express';
import { clientGone } from '../http/client-gone.js';
import { within } from '../runtime/within.js';
import { endRequestSpan } from '../http/request-span.js';
import type { Frame } from './session-events.service.js';

/** How long a browser waits before it comes back, in milliseconds. */
export const RECONNECT_AFTER_MS = 2_000;

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
export class EventStreamResponse {
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

  async begin(startsAt: Frame): Promise<void> {
    this.response.writeHead(200, HEADERS);
    endRequestSpan(this.response);
    await this.write(`retry: ${RECONNECT_AFTER_MS}\n\n${toText(startsAt)}`);
  }

  send(frame: Frame): Promise<void> {
    return this.write(toText(frame));
  }

  /** A comment, which keeps proxies from closing a silent connection; dropped where the buffer is full. */
  keepAlive(): void {
    if (!this.response.writableNeedDrain && !this.response.writableEnded)
      this.response.write(': keep-alive\n\n');
  }

  /** Ends it; the client is asked to reconnect after a while. */
  end(reconnectAfterMs?: number): void {
    if (this.response.writableEnded) return;
    this.response.end(reconnectAfterMs === undefined ? undefined : `retry: ${reconnectAfterMs}\n\n`);
  }

  private async write(text: string): Promise<void> {
    if (this.signal.aborted || this.response.writableEnded || this.response.write(text)) return;
    try {
      await within(this.maxStallMs, once(this.response, 'drain', { signal: this.signal }));
    } catch {
      this.response.destroy(); // it does not read, or it has gone
    }
  }
}

/** JSON holds no line break of its own, so a frame's data is one line. */
function toText({ id, event, data }: Frame): string {
  return `id: ${id}\n${event === undefined ? '' : `event: ${event}\ndata: ${data ?? '{}'}\n`}\n`;
}
