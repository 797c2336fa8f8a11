import type { Pauses } from './pauses.js';

/**
 * Wakes what waits when the device is online again, or the page is seen again.
 *
 * @returns what ends that
 */
export function wakeWithPage(pauses: Pauses): () => void {
  if (typeof document === 'undefined') return () => undefined;
  const online = (): void => pauses.wake(true);
  const seen = (): void => {
    if (document.visibilityState === 'visible') pauses.wake(false);
  };
  window.addEventListener('online', online);
  window.addEventListener('pageshow', seen);
  document.addEventListener('visibilitychange', seen);
  return () => {
    window.removeEventListener('online', online);
    window.removeEventListener('pageshow', seen);
    document.removeEventListener('visibilitychange', seen);
  };
}
