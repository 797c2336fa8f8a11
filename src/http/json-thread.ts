import { parentPort } from 'node:worker_threads';
import { readJson } from './json-document.js';

/** The thread of the JsonReader: reads the body that it is given. */
parentPort!.on('message', ({ bytes, maxValues }: { bytes: Uint8Array; maxValues: number }) => {
  parentPort!.postMessage(readJson(bytes, maxValues));
});
