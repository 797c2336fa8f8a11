import { parentPort } from 'node:worker_threads';
import { readJson } from './json-document.js';

/** The thread of {@link JsonThread}: reads one body after the other. */
parentPort!.on('message', ({ id, bytes }: { id: number; bytes: Uint8Array }) => {
  parentPort!.postMessage({ id, document: readJson(bytes) });
});
