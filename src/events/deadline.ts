import { within } from '../runtime/within.js';
import { EventStreamUnavailableError, STREAM_DEADLINE_MS } from './event-stream.js';

/**
 * Settles as `work` does, but within {@link STREAM_DEADLINE_MS}; whatever goes wrong becomes an
 * {@link EventStreamUnavailableError} with its cause. Work that is late may still take effect: every write to
 * the stream can be repeated without harm.
 */
export async function withinDeadline<T>(work: Promise<T>): Promise<T> {
  try {
    return await within(STREAM_DEADLINE_MS, work);
  } catch (error) {
    if (error instanceof EventStreamUnavailableError) throw error;
    throw new EventStreamUnavailableError(`The event stream is unavailable: ${String(error)}`, {
      cause: error,
    });
  }
}
