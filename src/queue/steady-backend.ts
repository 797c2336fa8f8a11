import { setTimeout as sleep } from 'node:timers/promises';
import type { IQueueBackend } from 'bullmq';

/** Pause after a failure to fetch a job, in milliseconds. */
const PAUSE_MS = 1_000;

/**
 * A worker of BullMQ whose fetch fails asks again at once, thousands of times a second, unless its store is
 * unreachable: so an error that stays (a command that the user may not use, a script that fails) keeps a processor
 * busy. Here it fails after a pause.
 */
export function pausingOnFailure<Backend extends IQueueBackend>(backend: Backend): Backend {
  const moveToActive = backend.moveToActive.bind(backend);
  const waitForJob = backend.waitForJob.bind(backend);
  backend.moveToActive = (...args) => moveToActive(...args).catch((error: unknown) => pause(error));
  backend.waitForJob = (...args) => waitForJob(...args).catch((error: unknown) => pause(error));
  return backend;
}

async function pause(error: unknown): Promise<never> {
  await sleep(PAUSE_MS, undefined, { ref: false });
  throw error;
}
