import { EventStreamUnavailableError } from './event-stream.js';

/**
 * Settles as `work` does, but within the deadline; whatever goes wrong becomes an
 * {@link EventStreamUnavailableError} with its cause. Work that is late may still take effect: every write to
 * the stream can be repeated without harm.
 */
export async function withinDeadline<T>(deadlineMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${deadlineMs} ms`)), deadlineMs);
  });
  try {
    return await Promise.race([work, deadline]);
  } catch (error) {
    if (error instanceof EventStreamUnavailableError) throw error;
    throw new EventStreamUnavailableError(`The event stream is unavailable: ${String(error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}
