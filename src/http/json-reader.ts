import { Worker } from 'node:worker_threads';
import { AppError } from '../runtime/app-error.js';
import { within } from '../runtime/within.js';
import { type JsonDocument, readJson } from './json-document.js';

/** Larger bodies are read beside the event loop, which serves everybody, in bytes: this many take a millisecond. */
const MAX_INLINE_BYTES = 128 * 1024;
/** Longest that a large body may take, those before it included, in milliseconds. */
const TIMEOUT_MS = 10_000;
/** What may wait for the thread, in bytes, beside one body of any size: who comes with more is told to come again. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;
const BUSY_RETRY_SECONDS = 2;

interface Waiting {
  bytes: Buffer;
  maxValues: number;
  resolve: (document: JsonDocument) => void;
  reject: (error: Error) => void;
}

/**
 * Reads JSON bodies: small ones at once, large ones in a thread that the first of them begins. It is given one after the
 * other, so that nothing is read for somebody who has given up, and what waits is bounded.
 */
export class JsonReader {
  private thread: Worker | null = null;
  private readonly waiting: Waiting[] = [];
  private reading: Waiting | null = null;

  /** @throws AppError service_unavailable where too much waits; where the thread fails, or does not come to it in time */
  async read(bytes: Buffer, maxValues: number): Promise<JsonDocument> {
    if (bytes.length <= MAX_INLINE_BYTES) return readJson(bytes, maxValues);
    const waitingBytes = this.waiting.reduce((sum, one) => sum + one.bytes.length, 0);
    if (waitingBytes > 0 && waitingBytes + bytes.length > MAX_WAITING_BYTES) {
      throw new AppError('service_unavailable', 'Too many large bodies wait to be read. Try again soon.', {
        retryAfterSeconds: BUSY_RETRY_SECONDS,
      });
    }
    const { promise, resolve, reject } = Promise.withResolvers<JsonDocument>();
    const one = { bytes, maxValues, resolve, reject };
    this.waiting.push(one);
    this.readNext();
    try {
      return await within(TIMEOUT_MS, promise);
    } finally {
      const index = this.waiting.indexOf(one);
      if (index >= 0) this.waiting.splice(index, 1);
    }
  }

  async close(): Promise<void> {
    await this.thread?.terminate();
  }

  private readNext(): void {
    if (this.reading) return;
    const next = this.waiting.shift();
    if (!next) return;
    this.reading = next;
    this.thread ??= this.begin();
    this.thread.postMessage({ bytes: next.bytes, maxValues: next.maxValues });
  }

  private begin(): Worker {
    const thread = new Worker(new URL('./json-thread.js', import.meta.url));
    thread.unref();
    thread.on('message', (document: JsonDocument) => {
      this.reading?.resolve(document);
      this.reading = null;
      this.readNext();
    });
    thread.on('error', (error) => this.fail(error));
    thread.on('exit', () => {
      this.thread = null;
      this.fail(new Error('the thread that reads large bodies has ended'));
    });
    return thread;
  }

  private fail(error: Error): void {
    for (const { reject } of [...(this.reading ? [this.reading] : []), ...this.waiting.splice(0)])
      reject(error);
    this.reading = null;
  }
}
