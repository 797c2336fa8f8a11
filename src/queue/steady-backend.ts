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

/** What BullMQ remembers of its readiness, in the backend and once more in the connection below it. */
interface Remembering {
  readyPromise?: Promise<void>;
  waitUntilReady(): Promise<void>;
}

/** Makes a backend on PostgreSQL try its first connection again after a failure, which BullMQ would keep for ever. */
export function forgetFailedReadiness(backend: IQueueBackend): void {
  const remembering = backend as unknown as Remembering & { connection: Remembering };
  for (const each of [remembering, remembering.connection]) {
    const waitUntilReady = each.waitUntilReady.bind(each);
    let waiting: Promise<void> | null = null;
    each.waitUntilReady = () => {
      if (!waiting) {
        waiting = waitUntilReady().catch((error: unknown) => {
          each.readyPromise = undefined;
          waiting = null;
          throw error;
        });
        // BullMQ does not look at every promise that it asks for: who does, sees the failure all the same.
        waiting.catch(() => undefined);
      }
      return waiting;
    };
  }
}

async function pause(error: unknown): Promise<never> {
  await sleep(PAUSE_MS, undefined, { ref: false });
  throw error;
}
