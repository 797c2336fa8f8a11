import { Worker } from 'node:worker_threads';
import { within } from '../runtime/within.js';
import { type JsonDocument, readJson } from './json-document.js';

/** Larger bodies are read beside the event loop, which serves everybody, in bytes: this many take a millisecond. */
const MAX_INLINE_BYTES = 128 * 1024;

/** Longest that a large body may take, those before it included, in milliseconds. */
const TIMEOUT_MS = 10_000;

/** Reads JSON bodies: small ones at once, large ones one after the other in a thread that the first of them begins. */
export class JsonReader {
  private thread: Worker | null = null;
  private readonly waiting = new Map<
    number,
    { resolve: (document: JsonDocument) => void; reject: (error: Error) => void }
  >();
  private count = 0;

  /** @throws where the thread fails, or does not come to it in time */
  async read(bytes: Buffer): Promise<JsonDocument> {
    if (bytes.length <= MAX_INLINE_BYTES) return readJson(bytes);
    const id = ++this.count;
    const reading = new Promise<JsonDocument>((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.thread ??= this.begin();
      this.thread.postMessage({ id, bytes });
    });
    try {
      return await within(TIMEOUT_MS, reading);
    } finally {
      this.waiting.delete(id);
    }
  }

  async close(): Promise<void> {
    await this.thread?.terminate();
  }

  private begin(): Worker {
    const thread = new Worker(new URL('./json-thread.js', import.meta.url));
    thread.unref();
    thread.on('message', ({ id, document }: { id: number; document: JsonDocument }) =>
      this.waiting.get(id)?.resolve(document),
    );
    thread.on('error', (error) => this.fail(error));
    thread.on('exit', () => {
      this.thread = null;
      this.fail(new Error('the thread that reads large bodies has ended'));
    });
    return thread;
  }

  private fail(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error);
  }
}
