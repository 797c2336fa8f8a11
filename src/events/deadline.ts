import { within } from '../runtime/within.js';
import { EventStreamUnavailableError } from './event-stream.js';

/**
 * Settles as `work` does, but within the deadline; whatever goes wrong becomes an
 * {@link EventStreamUnavailableError} with its cause. Work that is late may still take effect: every write to
 * the stream can be repeated without harm.
 */
export async function withinDeadline<T>(deadlineMs: number, work: Promise<T>): Promise<T> {
  try {
    return await within(deadlineMs, work);
  } catch (error) {
    if (error instanceof EventStreamUnavailableError) throw error;
    throw new EventStreamUnavailableError(`The event stream is unavailable: ${String(error)}`, {
      cause: error,
    });
  }
}
